import type { Worker } from 'node:worker_threads';
import { systemCodeOf } from '../base/errors.ts';
import type { DeathReason } from '../lane/readings.ts';

interface Member {
  readonly threadId: number;
  isLoaded: boolean;
  /** Why no turn is given to it any more; undefined: it may have some. */
  verdict: DeathReason | undefined;
}

/**
 * The living threads of a pool: which have loaded their entry, which are given up for hung, and, as each of them ends, what
 * it died of. A thread that ends is told once, whatever it threw on its way.
 */
export class ThreadRoster {
  readonly #members = new Map<Worker, Member>();
  readonly #onEnd: (threadId: number, reason: DeathReason) => void;

  constructor(onEnd: (threadId: number, reason: DeathReason) => void) {
    this.#onEnd = onEnd;
  }

  /** Takes in the threads that are new. To be called before the event loop runs on after they were made. */
  admit(threads: readonly Worker[]): void {
    for (const thread of threads) if (!this.#members.has(thread)) this.#watch(thread);
  }

  /** The thread has loaded its entry. */
  noteLoaded(threadId: number): void {
    const member = this.#memberOf(threadId);
    if (member !== undefined) member.isLoaded = true;
  }

  /** Threads that have not loaded their entry yet. */
  loading(): Worker[] {
    return [...this.#members].filter(([, { isLoaded }]) => !isLoaded).map(([thread]) => thread);
  }

  /** Ends a thread that is taken for hung, or gone. False: that is under way, or it has ended. */
  condemn(threadId: number, verdict: 'hung' | 'exit'): boolean {
    for (const [thread, member] of this.#members) {
      if (member.threadId !== threadId || member.verdict !== undefined) continue;
      member.verdict = verdict;
      thread.terminate().catch(() => {
        // A thread that is gone already can't be ended; that is all we wanted.
      });
      return true;
    }
    return false;
  }

  /** Whether a thread may be given a turn. */
  isFit(threadId: number): boolean {
    const member = this.#memberOf(threadId);
    return member !== undefined && member.verdict === undefined;
  }

  #memberOf(threadId: number): Member | undefined {
    for (const member of this.#members.values()) if (member.threadId === threadId) return member;
    return undefined;
  }

  #watch(thread: Worker): void {
    this.#members.set(thread, {
      threadId: thread.threadId,
      isLoaded: false,
      verdict: undefined,
    });
    // The first message of a thread says that it has loaded its entry.
    thread.once('message', () => this.noteLoaded(thread.threadId));
    thread.once('error', (error: unknown) => this.#end(thread, reasonOf(error)));
    thread.once('exit', () => this.#end(thread, 'exit'));
  }

  #end(thread: Worker, reason: DeathReason): void {
    const member = this.#members.get(thread);
    if (member === undefined) return;
    this.#members.delete(thread);
    // One that was ended because it hung exits like any other; what it threw before says more.
    this.#onEnd(member.threadId, reason === 'exit' ? (member.verdict ?? reason) : reason);
  }
}

function reasonOf(error: unknown): DeathReason {
  return systemCodeOf(error) === 'ERR_WORKER_OUT_OF_MEMORY' ? 'out_of_memory' : 'uncaught';
}
