import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { JetStreamClient, JetStreamManager } from '@nats-io/jetstream';
import type { KV } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/transport-node';
import { MillraceError, textOfError } from '../base/errors.ts';
import {
  connectNats,
  covers,
  loadJetStream,
  loadKv,
  type NatsServer,
  subjectOf,
} from '../broker/nats.ts';
import { endWithin } from './deadline.ts';
import { NatsFeed } from './nats-feed.ts';
import { leaseOf, NatsLeases, type Place, settledIn } from './nats-leases.ts';
import type {
  Feed,
  PartitionState,
  PartitionWork,
  ReplaySpan,
  Source,
  SourceHost,
  Upstream,
} from './source.ts';

export interface NatsSourceConfig {
  readonly server: NatsServer;
  readonly stream: string;
  readonly subjectPrefix: string;
  readonly partitions: number;
  /** Relays of one group share the partitions. */
  readonly group: string;
  /** How long a relay that is not heard of keeps its partitions, in ms. */
  readonly leaseMs: number;
  /** Subject of dead letters; undefined: there is none. */
  readonly deadLetterSubject: string | undefined;
  /** Whether settled messages are taken out of the stream. */
  readonly trim: 'settled' | 'never';
}

const BEATS_A_LEASE = 4;
/** At first the others are to be heard of. */
const BEATS_TO_LISTEN = 2;
const TIMEOUT_MS_MIN = 1000;
const OPEN_ATTEMPTS = 5;
const TRIM_EVERY_BEATS = 8;
const BURY_RETRY_MS = 500;
const GOODBYE_MS = 5000;

interface Links {
  readonly connection: NatsConnection;
  readonly jetStream: JetStreamClient;
  readonly manager: JetStreamManager;
}

interface Owned {
  readonly feed: NatsFeed;
  /** When the stream was made that it reads. */
  readonly stream: string;
  readonly work: PartitionWork;
  trimmed: number;
}

/** The partitions of a JetStream stream, shared among the relays of a group. */
class NatsSource implements Source {
  readonly #config: NatsSourceConfig;
  readonly #links: Links;
  readonly #leases: NatsLeases;
  readonly #host: SourceHost;
  readonly #self: string;
  readonly #owned = new Map<number, Owned>();
  readonly #releasing = new Set<number>();
  readonly #timer: NodeJS.Timeout;
  #beats = 0;
  #isConnected = true;
  #isClosing = false;
  #ticking: Promise<void> = Promise.resolve();
  #isTicking = false;
  /** When the stream was made. */
  #stream: string;
  #isLooking = false;

  private constructor(
    config: NatsSourceConfig,
    parts: { links: Links; leases: NatsLeases; self: string; host: SourceHost; stream: string },
  ) {
    this.#config = config;
    this.#stream = parts.stream;
    this.#links = parts.links;
    this.#leases = parts.leases;
    this.#self = parts.self;
    this.#host = parts.host;
    this.#timer = setInterval(() => this.#beat(), config.leaseMs / BEATS_A_LEASE);
  }

  /** @throws MillraceError MILLRACE_UNAVAILABLE, MILLRACE_OPTIONS */
  static async open(config: NatsSourceConfig, host: SourceHost): Promise<NatsSource> {
    const links = await link(config);
    const self = `${hostname().replaceAll(/[^\w-]/g, '_')}-${process.pid}-${randomUUID().slice(0, 8)}`;
    const leases = new NatsLeases(await openBucket(links, config), {
      self,
      leaseMs: config.leaseMs,
    });
    leases.watch(performance.now());
    const { created: stream } = await links.manager.streams.info(config.stream);
    return new NatsSource(config, { links, leases, self, host, stream });
  }

  get feeds(): readonly Feed[] {
    return [...this.#owned.values()].map(({ feed }) => feed);
  }

  get members(): number {
    return this.#leases.members(performance.now());
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  get hasShare(): boolean {
    return this.#beats > BEATS_TO_LISTEN && this.#owned.size >= this.#share(performance.now());
  }

  #share(nowMs: number): number {
    return Math.ceil(this.#config.partitions / this.#leases.members(nowMs));
  }

  #beat(): void {
    if (this.#isTicking || this.#isClosing) return;
    this.#isTicking = true;
    this.#ticking = this.#tick()
      .then(() => {
        this.#isConnected = true;
      })
      .catch((error: unknown) => {
        this.#isConnected = false;
        this.#host.onTrouble(textOfError(error));
      })
      .finally(() => {
        this.#isTicking = false;
      });
  }

  async #tick(): Promise<void> {
    this.#beats += 1;
    void this.#lookAtStream();
    this.#leases.tend(performance.now());
    await this.#leases.beat();
    await Promise.all([...this.#owned].map(([partition, owned]) => this.#note(partition, owned)));
    if (this.#beats > BEATS_TO_LISTEN && !this.#isClosing) await this.#balance();
    if (this.#config.trim === 'settled' && this.#beats % TRIM_EVERY_BEATS === 0) await this.#trim();
  }

  /**
   * Whether the stream is still the same: one that was deleted and made anew counts from 1 again, and what is in it would be taken for
   * settled. Nothing waits for the answer, lest a slow one cost the leases.
   */
  async #lookAtStream(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      const { created } = await this.#links.manager.streams.info(this.#config.stream);
      if (created === this.#stream || this.#isClosing) return;
      this.#stream = created;
      this.#host.onTrouble(`stream ${this.#config.stream} was made anew: read from its beginning`);
      for (const { work } of this.#owned.values()) void work.drop();
      this.#owned.clear();
    } catch {
      // The feeds tell what is wrong with it.
    } finally {
      this.#isLooking = false;
    }
  }

  /** Writes down how far a partition is, and hears whether it still is ours. */
  async #note(partition: number, owned: Owned): Promise<void> {
    const { feed, stream, work } = owned;
    const claim = await this.#leases.write(partition, { settled: feed.settled, stream });
    if (claim.kind !== 'lost' || this.#releasing.has(partition)) return;
    if (this.#owned.get(partition) !== owned) return;
    this.#host.onTrouble(`partition ${partition} went to another relay`);
    this.#owned.delete(partition);
    // What is under way may still come to its end; nothing waits for it.
    void work.drop();
  }

  /** No relay has more than its share; free partitions are taken up to it. */
  async #balance(): Promise<void> {
    const nowMs = performance.now();
    const share = this.#share(nowMs);
    const owned = [...this.#owned];
    const surplus = owned
      .filter(([, { work }], index) => index >= share || work.isOver)
      .map(([partition]) => partition);
    await Promise.all(surplus.map((partition) => this.#giveBack(partition)));
    for (let partition = 0; partition < this.#config.partitions; partition += 1) {
      if (this.#owned.size >= share || this.#isClosing) return;
      if (this.#owned.has(partition) || !this.#leases.isFree(partition, nowMs)) continue;
      const stream = this.#stream;
      const claim = await this.#leases.take(partition, stream);
      if (claim.kind === 'held') this.#begin(partition, { settled: claim.settled, stream });
    }
  }

  #begin(partition: number, { settled, stream }: Place): void {
    const { jetStream, manager } = this.#links;
    const feed = new NatsFeed({
      jetStream,
      manager,
      stream: this.#config.stream,
      subject: subjectOf(this.#config.subjectPrefix, partition),
      partition,
      name: `relay_${this.#self}_${this.#beats}`,
      after: settled,
      onTrouble: this.#host.onTrouble,
    });
    this.#owned.set(partition, { feed, stream, work: this.#host.begin(feed), trimmed: settled });
  }

  async #giveBack(partition: number): Promise<void> {
    const owned = this.#owned.get(partition);
    if (owned === undefined || this.#releasing.has(partition)) return;
    this.#releasing.add(partition);
    try {
      await owned.work.drain();
      const { feed, stream } = owned;
      await this.#leases.release(partition, { settled: feed.settled, stream });
    } finally {
      if (this.#owned.get(partition) === owned) this.#owned.delete(partition);
      this.#releasing.delete(partition);
    }
  }

  /** Takes settled messages out of the stream, so that a full one has room again. */
  async #trim(): Promise<void> {
    const { stream, subjectPrefix } = this.#config;
    for (const [partition, owned] of this.#owned) {
      // What the lease says is what a successor starts from; nothing beyond it may go.
      const settled = this.#leases.settledOf(partition, owned.stream);
      if (settled <= owned.trimmed) continue;
      await this.#links.manager.streams.purge(stream, {
        filter: subjectOf(subjectPrefix, partition),
        seq: settled + 1,
      });
      owned.trimmed = settled;
    }
  }

  async bury(lines: readonly string[]): Promise<void> {
    const { deadLetterSubject } = this.#config;
    if (deadLetterSubject === undefined || lines.length === 0) return;
    for (;;) {
      try {
        for (const line of lines) {
          await this.#links.jetStream.publish(deadLetterSubject, line);
        }
        return;
      } catch (error) {
        this.#host.onTrouble(`${deadLetterSubject} takes no dead letters: ${error}`);
        if (this.#links.connection.isClosed()) return;
        await new Promise((resolve) => setTimeout(resolve, BURY_RETRY_MS));
      }
    }
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    clearInterval(this.#timer);
    await endWithin(this.#ticking, GOODBYE_MS);
    await endWithin(
      Promise.all([...this.#owned.keys()].map((partition) => this.#giveBack(partition))),
      GOODBYE_MS,
    );
    await endWithin(this.#leases.close(), GOODBYE_MS);
    await this.#links.connection.close();
  }
}

/**
 * The bucket of the leases, made if it is missing. What is written there waits less long than anything else: a beat that waited
 * for a broker that was restarted meanwhile would let the lease run out.
 */
async function openBucket(
  { connection, jetStream, manager }: Links,
  config: NatsSourceConfig,
): Promise<KV> {
  const { Kvm } = await loadKv();
  const { jetstream } = await loadJetStream();
  const name = bucketOf(config);
  const { config: stream } = await manager.streams.info(config.stream);
  await new Kvm(jetStream).create(name, { history: 1, replicas: stream.num_replicas });
  const timeout = Math.max(TIMEOUT_MS_MIN, config.leaseMs / BEATS_A_LEASE);
  const impatient = new Kvm(jetstream(connection, { timeout }));
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await impatient.open(name);
    } catch (error) {
      if (attempt === OPEN_ATTEMPTS) {
        throw new MillraceError('MILLRACE_UNAVAILABLE', `the bucket ${name}: ${error}`, error);
      }
    }
  }
}

async function link(config: NatsSourceConfig): Promise<Links> {
  const { jetstream, jetstreamManager } = await loadJetStream();
  let connection: NatsConnection;
  try {
    connection = await connectNats(config.server, 'millrace-relay');
  } catch (error) {
    const { servers } = config.server;
    throw new MillraceError('MILLRACE_UNAVAILABLE', `no NATS at ${servers.join(', ')}: ${error}`);
  }
  try {
    const manager = await jetstreamManager(connection);
    await checkStream(manager, config);
    return { connection, manager, jetStream: jetstream(connection) };
  } catch (error) {
    await connection.close();
    if (error instanceof MillraceError) throw error;
    throw new MillraceError('MILLRACE_UNAVAILABLE', `stream ${config.stream}: ${error}`, error);
  }
}

async function checkStream(
  manager: JetStreamManager,
  { stream, subjectPrefix, deadLetterSubject }: NatsSourceConfig,
): Promise<void> {
  const { config } = await manager.streams.info(stream);
  if (config.retention !== 'limits') {
    throw new MillraceError(
      'MILLRACE_OPTIONS',
      `stream ${stream} has retention ${config.retention}; relays need 'limits'`,
    );
  }
  const patterns = config.subjects ?? [];
  if (!patterns.some((pattern) => covers(pattern, subjectOf(subjectPrefix, 0)))) {
    throw new MillraceError(
      'MILLRACE_OPTIONS',
      `stream ${stream} has the subjects ${patterns.join(', ')}, not ${subjectPrefix}.*`,
    );
  }
  if (deadLetterSubject === undefined) return;
  // Rejects when no stream takes the subject: a dead letter must be kept somewhere.
  await manager.streams.find(deadLetterSubject).catch(() => {
    throw new MillraceError(
      'MILLRACE_OPTIONS',
      `no stream has the subject ${deadLetterSubject}; dead letters would be lost`,
    );
  });
}

function bucketOf({ group, stream }: NatsSourceConfig): string {
  return `millrace_${group}_${stream}`.replaceAll(/[^\w-]/g, '_');
}

/** A JetStream stream as relays see it. */
export function natsUpstream(config: NatsSourceConfig): Upstream {
  return {
    open: (host) => NatsSource.open(config, host),
    replay: (span, host) => openReplay(config, { ...span, host }),
    states: () => readStates(config),
  };
}

async function openReplay(
  config: NatsSourceConfig,
  { from, to, host }: ReplaySpan & { readonly host: SourceHost },
): Promise<Source> {
  const links = await link(config);
  const name = `replay_${randomUUID().slice(0, 8)}`;
  const feeds = Array.from({ length: config.partitions }, (_, partition) => {
    const feed = new NatsFeed({
      ...links,
      stream: config.stream,
      subject: subjectOf(config.subjectPrefix, partition),
      partition,
      name,
      after: from,
      untilMs: to.getTime(),
      onTrouble: host.onTrouble,
    });
    host.begin(feed);
    return feed;
  });
  return {
    feeds,
    members: 1,
    isConnected: true,
    hasShare: true,
    bury: async () => {
      // A replay shows what is refused as rejected; its dead letters are there since the first time.
    },
    close: () => links.connection.close(),
  };
}

async function readStates(config: NatsSourceConfig): Promise<PartitionState[]> {
  const { connection, manager, jetStream } = await link(config);
  try {
    const { Kvm } = await loadKv();
    const bucket = await hasBucket(manager, bucketOf(config));
    const kv = bucket ? await new Kvm(jetStream).open(bucketOf(config)) : undefined;
    const { created } = await manager.streams.info(config.stream);
    const states: PartitionState[] = [];
    for (let partition = 0; partition < config.partitions; partition += 1) {
      const entry = await kv?.get(`p.${partition}`);
      const lease = entry && leaseOf(entry);
      const owner = lease?.owner ?? '';
      const settled = lease ? settledIn(lease, created) : 0;
      const lag = await pendingAfter(manager, { config, partition, settled });
      states.push({ partition, owner, settled, lag });
    }
    return states;
  } finally {
    await connection.close();
  }
}

async function hasBucket(manager: JetStreamManager, bucket: string): Promise<boolean> {
  try {
    await manager.streams.info(`KV_${bucket}`);
    return true;
  } catch {
    // No relay of the group has run yet.
    return false;
  }
}

/** Messages of a partition behind a sequence: a consumer that nobody reads by knows. */
async function pendingAfter(
  manager: JetStreamManager,
  { config, partition, settled }: { config: NatsSourceConfig; partition: number; settled: number },
): Promise<number> {
  const name = `look_${randomUUID().slice(0, 8)}`;
  const { num_pending: pending } = await manager.consumers.add(config.stream, {
    name,
    filter_subject: subjectOf(config.subjectPrefix, partition),
    ack_policy: 'none' as never,
    deliver_policy: 'by_start_sequence' as never,
    opt_start_seq: settled + 1,
    inactive_threshold: 10e9,
    mem_storage: true,
    num_replicas: 1,
  });
  await manager.consumers.delete(config.stream, name);
  return pending;
}
