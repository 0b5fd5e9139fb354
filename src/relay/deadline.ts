import { within } from '../base/event-loop.ts';

/** Waits for the end of what may hang on a broker that is gone, but not for ever. How it ends is nobody's business. */
export async function endWithin(work: Promise<unknown> | undefined, ms: number): Promise<void> {
  if (work === undefined) return;
  await within(
    work.catch(() => undefined),
    ms,
    undefined,
  );
}
