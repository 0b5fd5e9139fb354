import { MillraceError, textOfError } from '../base/errors.ts';
import type { DeathReason } from '../lane/readings.ts';
import { CRASHED } from '../lane/settlement.ts';
import type { DiskKiller, TurnCare } from '../worker/contract.ts';
import { CrashStreak } from './crash-streak.ts';
import type { Seat, SeqSpan } from './seat.ts';

export interface TriageParts {
  /** How long workers may die without progress before their lane is given up, in ms. */
  readonly patienceMs: number;
  /** Most records of a lane that a worker has in hand. */
  readonly handRecordsMax: number;
  /** Whether lanes have a disk to fall back on. */
  readonly hasSpool: boolean;
  /** Whether what is given up is kept in a file, which is a worker's to write. */
  readonly keepsDeadLetters: boolean;
  readonly onError: (error: MillraceError) => void;
  /** Records of a lane were dropped because of what workers die of. */
  readonly onDropped: (seat: Seat, gone: SeqSpan) => void;
  /** Nobody attends the lane any more. */
  readonly onGivenUp: (seat: Seat) => void;
  /** A lane has waited long enough: its turn may be posted. */
  readonly onRelease: (seat: Seat) => void;
}

/**
 * What a lane had to do with a death:
 * - `bystander`: nothing;
 * - `suspect`: perhaps it was this lane, perhaps another one;
 * - `sole`: it can only have been this lane, with whichever record;
 * - `head`: it was this lane, with the record at its head;
 * - `disk`: it was this lane, with the record from disk that was under way.
 */
export type Verdict = 'bystander' | 'suspect' | 'sole' | 'head' | 'disk';

/** Records of a lane that are read one at a time: those below a number in the ring, and until so many from disk have their fate. */
type Probation = Pick<TurnCare, 'aloneBelow' | 'aloneBelowOnDisk'>;

interface Patient {
  readonly streak: CrashStreak;
  /** What the lane had to do with the latest death, until that is judged. */
  verdict: Verdict | undefined;
  /** Undefined: all is as usual. */
  probation: Probation | undefined;
  /** The record from disk that is to be given up. */
  killer: DiskKiller | undefined;
  /** The same for one of the ring, by its number. */
  killerInRing: number | undefined;
  aim: TurnCare['aim'];
}

interface Trial {
  readonly seat: Seat;
  done: number;
  /** Since when the lane has got nothing done, monotonic ms. */
  sinceMs: number;
}

/** Turns that may die in a row without progress before it is said aloud. */
const CRASHES_LOUD = 5;
/** A lane that neither kills its worker nor gets anything done does not hold up the next one's trial for longer, in ms. */
const TRIAL_MS = 2000;

/**
 * Decides what becomes of lanes whose workers die. A death is charged to the lane that the thread was busy with; where that is
 * not known, to all it may have had to do with. Lanes that were only there go on as if nothing had happened.
 *
 * A thread attends several lanes, and takes all of them along when it dies. Lanes that have lost several workers are therefore put on
 * probation: one after the other gets its trial, a turn that reads one record at a time, while no other turn is posted. So a lane that
 * dies then has itself to blame. A probation ends when the lane is past the records that were in hand when its workers died.
 */
export class Triage {
  readonly #parts: TriageParts;
  readonly #patients = new Map<Seat, Patient>();
  #trial: Trial | undefined;
  /** Lanes whose turns wait until all trials are over. */
  readonly #waiting = new Set<Seat>();

  constructor(parts: TriageParts) {
    this.#parts = parts;
  }

  /** What the next turn of a lane has to mind; undefined: nothing. */
  careOf(seat: Seat): TurnCare | undefined {
    const patient = this.#patients.get(seat);
    if (patient === undefined) return undefined;
    const { aim, probation, killer, killerInRing } = patient;
    const isKilled = killer !== undefined || killerInRing !== undefined;
    if (probation === undefined && !isKilled && aim === 'deliver') return undefined;
    return { aim, killer, killerInRing, ...(probation ?? marksOf(seat)) };
  }

  /** Whether what a lane has on disk stays there for as long as this engine lives. */
  isStuck(seat: Seat): boolean {
    return seat.isGivenUp || this.#patients.get(seat)?.aim === 'save';
  }

  /** A turn ended in good order. */
  discharge(seat: Seat): void {
    const patient = this.#patients.get(seat);
    if (patient === undefined) return;
    acquit(patient);
    this.tend();
  }

  forget(seat: Seat): void {
    this.#patients.delete(seat);
    this.#waiting.delete(seat);
    this.tend();
  }

  /** Whether a turn of the lane may be posted now. False: it will be told when. */
  mayRun(seat: Seat): boolean {
    if (this.#trial !== undefined && this.#trial.seat !== seat) {
      this.#waiting.add(seat);
      return false;
    }
    if (this.#isOnProbation(seat)) {
      this.#trial = { seat, done: seat.done, sinceMs: performance.now() };
    }
    return true;
  }

  #isOnProbation(seat: Seat): boolean {
    return this.#patients.get(seat)?.probation !== undefined;
  }

  isWaiting(seat: Seat): boolean {
    return this.#waiting.has(seat);
  }

  /** Whether lanes wait for the end of a trial. */
  get hasWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /** Ends a trial that is over, and begins the next one; after the last of them all lanes go on. To be called now and then. */
  tend(): void {
    if (this.#trial !== undefined && !this.#isOver(this.#trial)) return;
    this.#trial = undefined;
    const waiting = [...this.#waiting];
    const next = waiting.find((seat) => this.#isOnProbation(seat));
    for (const seat of next === undefined ? waiting : [next]) {
      this.#waiting.delete(seat);
      this.#parts.onRelease(seat);
    }
  }

  #isOver(trial: Trial): boolean {
    const { seat } = trial;
    const patient = this.#patients.get(seat);
    if (patient?.probation === undefined || seat.isGivenUp) return true;
    if (!isAloneInRing(seat, patient.probation) && !isAloneOnDisk(seat, patient.probation)) {
      acquit(patient);
      return true;
    }
    const { done } = seat;
    if (done !== trial.done) {
      trial.done = done;
      trial.sinceMs = performance.now();
    }
    return performance.now() - trial.sinceMs >= TRIAL_MS;
  }

  /** A thread has died, or hangs and will be ended: finds out which of the lanes it attended had to do with that. */
  accuse(attended: readonly Seat[], reason: DeathReason): void {
    const busy = attended.filter(({ busyAt }) => busyAt !== 'nothing');
    const suspects = busy.length > 0 ? busy : attended.filter((seat) => seat.isLoaded);
    for (const seat of attended) this.#patientOf(seat).verdict = 'bystander';
    for (const seat of suspects) this.#patientOf(seat).verdict = 'suspect';
    if (this.#trial !== undefined && attended.includes(this.#trial.seat)) this.#trial = undefined;
    const [sole] = suspects;
    if (sole === undefined || suspects.length > 1) {
      this.#reserveTrial(suspects);
      return;
    }
    // What a thread throws, or uses up, later than in the call itself has to do with the one record under way.
    const isTelling = reason === 'uncaught' || reason === 'out_of_memory';
    this.#patientOf(sole).verdict = (isTelling ? placeUnderWay(sole) : placeAt(sole)) ?? 'sole';
  }

  /** The next trial is for one of these: until then no other lane goes to the thread that takes the place of the dead one. */
  #reserveTrial(suspects: readonly Seat[]): void {
    const first = suspects.find((seat) => this.#isOnProbation(seat));
    if (this.#trial === undefined && first !== undefined) this.mayRun(first);
  }

  /**
   * Draws the consequences for a lane whose turn has died, once a death, before the next one is posted. Returns how many have died
   * in a row without progress.
   *
   * @param otherwise what the lane had to do with it, where nobody was accused
   */
  judge(seat: Seat, otherwise: Verdict, error: unknown): number {
    const patient = this.#patientOf(seat);
    const wasAccused = patient.verdict !== undefined;
    if (!wasAccused && this.#trial?.seat === seat) this.#trial = undefined;
    const verdict = patient.verdict ?? otherwise;
    patient.verdict = undefined;
    if (verdict === 'bystander') return 0;
    if (verdict === 'head' && patient.killerInRing === seat.headSeq) {
      // It can't even be read to be given up.
      this.#parts.onDropped(seat, seat.dropHead());
      return patient.streak.crashes;
    }
    const remedy = patient.streak.note({
      nowMs: performance.now(),
      postedMs: seat.postedMs,
      done: seat.done,
      isSole: verdict !== 'suspect',
      culprit: culpritOf(seat, verdict, patient.probation),
    });
    const { crashes } = patient.streak;
    if (crashes === CRASHES_LOUD) this.#tellOf(seat, crashes, error);
    if (remedy === 'drop') this.#drop(seat, verdict, error);
    else if (remedy === 'give-up') this.#giveUp(seat, patient, error);
    else if (remedy === 'alone') patient.probation = this.#probationOf(seat, patient.probation);
    return crashes;
  }

  /** A turn has found that no process survives what its lane has on disk. */
  giveUp(seat: Seat, error: unknown): void {
    this.#giveUp(seat, this.#patientOf(seat), error);
  }

  /** Drops what has entered a lane that is given up. */
  dropRest(seat: Seat): void {
    if (seat.isSettledUpTo(seat.tail)) return;
    this.#parts.onDropped(seat, seat.dropRest(CRASHED));
  }

  #patientOf(seat: Seat): Patient {
    let patient = this.#patients.get(seat);
    if (patient === undefined) {
      patient = newPatient('deliver', this.#parts.patienceMs);
      this.#patients.set(seat, patient);
    }
    return patient;
  }

  /** The records that the worker which died can have had in hand, but for those that are on probation already. */
  #probationOf(seat: Seat, before: Probation = marksOf(seat)): Probation {
    const { headSeq, diskHead, hasDiskWork } = seat;
    const { handRecordsMax } = this.#parts;
    const queued = (seat.tailSeq - headSeq) >>> 0;
    const inHand = Math.min(queued, seat.inFlight || handRecordsMax);
    return {
      aloneBelow: isAloneInRing(seat, before)
        ? before.aloneBelow
        : (headSeq + (hasDiskWork ? inHand : Math.max(1, inHand))) | 0,
      aloneBelowOnDisk: isAloneOnDisk(seat, before)
        ? before.aloneBelowOnDisk
        : diskHead + (hasDiskWork ? handRecordsMax : 0),
    };
  }

  #drop(seat: Seat, verdict: Verdict, error: unknown): void {
    const patient = this.#patientOf(seat);
    // What is on disk, or goes there, is a worker's to change; the next one gives the record up before anything else.
    if (verdict === 'disk') {
      const { lane, number } = seat.fromDisk;
      patient.killer = { lane, number, settled: seat.diskHead };
    } else if (this.#parts.keepsDeadLetters) patient.killerInRing = seat.headSeq;
    else this.#parts.onDropped(seat, seat.dropHead());
    this.#parts.onError(
      new MillraceError(
        'MILLRACE_POISON',
        `a record of ${seat.title} was dropped, because workers die of it: ${textOfError(error)}`,
        error,
      ),
    );
  }

  #giveUp(seat: Seat, patient: Patient, error: unknown): void {
    const canSave =
      this.#parts.hasSpool && patient.aim === 'deliver' && seat.backlogs === undefined;
    if (canSave) {
      this.#patients.set(seat, newPatient('save', this.#parts.patienceMs));
    } else {
      seat.giveUp();
      this.dropRest(seat);
      this.#parts.onGivenUp(seat);
    }
    this.#parts.onError(
      new MillraceError(
        'MILLRACE_GIVEN_UP',
        `${seat.title} is given up, because workers die of it: ${textOfError(error)}. ${canSave ? SAVED : fateOf(seat)}`,
        error,
      ),
    );
  }

  #tellOf(seat: Seat, crashes: number, error: unknown): void {
    this.#parts.onError(
      new MillraceError(
        'MILLRACE_WORKER',
        `${seat.title} has lost ${crashes} workers in a row without progress: ${textOfError(error)}`,
        error,
      ),
    );
  }
}

const SAVED = 'Its records go to the spool, and are delivered by the next start';

function fateOf({ backlogs }: Seat): string {
  return backlogs === undefined
    ? 'Its records are dropped, as reason crashed'
    : 'What earlier runs left stays on disk';
}

function newPatient(aim: TurnCare['aim'], patienceMs: number): Patient {
  const streak = new CrashStreak(patienceMs);
  return {
    streak,
    verdict: undefined,
    probation: undefined,
    killer: undefined,
    killerInRing: undefined,
    aim,
  };
}

function acquit(patient: Patient): void {
  patient.streak.end();
  patient.probation = undefined;
  patient.killer = undefined;
  patient.killerInRing = undefined;
}

/** Where the record is that a turn died of, by what it was in the middle of. Undefined: nobody knows. */
function placeAt({ busyAt }: Seat): 'head' | 'disk' | undefined {
  return busyAt === 'nothing' ? undefined : busyAt;
}

/** The same for a turn that can have died of whatever was under way, if that is one record. */
export function placeUnderWay(seat: Seat): 'head' | 'disk' | undefined {
  const { inFlight, fromDisk } = seat;
  const isOne = inFlight + fromDisk.records === 1;
  return placeAt(seat) ?? (isOne ? (inFlight === 1 ? 'head' : 'disk') : undefined);
}

/** A name for the one record that a turn died of. Undefined: there were several. */
function culpritOf(
  seat: Seat,
  verdict: Verdict,
  probation: Probation | undefined,
): string | undefined {
  if (verdict === 'disk') {
    const { records, lane, number } = seat.fromDisk;
    return records === 1 ? `disk ${lane} ${number}` : undefined;
  }
  const isAlone = verdict === 'head' && probation !== undefined && isAloneInRing(seat, probation);
  return isAlone ? `ring ${seat.headSeq}` : undefined;
}

/** A probation of no record. */
function marksOf({ headSeq, diskHead }: Seat): Probation {
  return { aloneBelow: headSeq, aloneBelowOnDisk: diskHead };
}

function isAloneInRing({ headSeq }: Seat, { aloneBelow }: Probation): boolean {
  return isBefore(headSeq, aloneBelow);
}

function isAloneOnDisk({ diskHead, hasDiskWork }: Seat, { aloneBelowOnDisk }: Probation): boolean {
  return hasDiskWork && diskHead < aloneBelowOnDisk;
}

/** Whether a record comes before another, by their numbers. */
function isBefore(seq: number, other: number): boolean {
  return ((seq - other) | 0) < 0;
}
