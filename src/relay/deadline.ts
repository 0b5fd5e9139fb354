/** Waits for what may hang on a broker that is gone, but not for ever; what fails then is nobody's business any more. */
export async function within(work: Promise<unknown> | undefined, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work?.catch(() => undefined), limit]);
  clearTimeout(timer);
}
