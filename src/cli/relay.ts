import { Command, InvalidArgumentError } from 'commander';
import { type RelayAccount, type RelayOptions, relay, relayState } from '../relay/relay.ts';
import { parseCount, parsePort, parsePositive } from './arguments.ts';
import { firstSignal } from './signals.ts';

interface RelayFlags {
  readonly from: string;
  readonly url?: string;
  readonly appid?: string;
  readonly toFiles?: string;
  readonly prefix?: string;
  readonly partitions?: number;
  readonly group?: string;
  readonly batch?: number;
  readonly lease?: number;
  readonly deadLetter?: string;
  readonly trim?: boolean;
  readonly replay?: { from: Date; to: Date };
  readonly once?: boolean;
  readonly creds?: string;
  readonly mechanism?: string;
  readonly tls?: boolean | string;
  readonly metrics?: number;
  readonly metricsHost?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

const PROGRESS_MS = 1000;

/** `millrace relay`: from a broker to the receiver. */
export function relayCommand(): Command {
  return new Command('relay')
    .description(
      'take records from NATS JetStream or Kafka to the receiver, shared among all relays of a group',
    )
    .requiredOption(
      '--from <url>',
      'nats://HOST:PORT/STREAM or kafka://HOST:PORT/TOPIC, several hosts separated by commas',
    )
    .option('--url <url>', 'the receiver')
    .option('--appid <id>', 'the app id')
    .option('--to-files <dir>', 'log files instead of a receiver')
    .option(
      '--prefix <subject>',
      "NATS: subjects' prefix (default: the stream's name in lower case)",
    )
    .option(
      '--partitions <count>',
      'NATS: partitions, as the senders have it (default: 16)',
      parsePositive,
    )
    .option('--group <name>', 'relays of one group share the partitions (default: relay)')
    .option('--batch <records>', 'records of one request (default: 500)', parsePositive)
    .option(
      '--lease <ms>',
      'how long a silent relay keeps its partitions (default: 5000, Kafka: 10000)',
      parseCount,
    )
    .option(
      '--dead-letter <name>',
      'subject or topic for refused records; a stream must have it, the topic must be there',
    )
    .option('--trim', 'NATS: take settled messages out of the stream')
    .option(
      '--replay <from..to>',
      'only the messages of a time, as ISO times; no FROM: from the beginning; then end',
      parseSpan,
    )
    .option('--once', 'end when everything that is there is settled')
    .option('--creds <file>', 'NATS: credentials')
    .option('--mechanism <name>', 'Kafka: plain, scram-sha-256 or scram-sha-512')
    .option('--tls [file]', 'Kafka: TLS, with the certificates of a PEM file')
    .option('--metrics <port>', 'GET /metrics at this port', parsePort)
    .option('--metrics-host <host>', 'address of the metrics (default: 127.0.0.1)')
    .option('--dry-run', 'show owner, position and lag of each partition, and end')
    .option('--json', 'print the final counts as one JSON object')
    .action(run);
}

function parseSpan(text: string): { from: Date; to: Date } {
  const [from, to] = text.split('..').map((part) => new Date(part === '' ? 0 : part));
  if (from === undefined || to === undefined || Number.isNaN(+from) || Number.isNaN(+to)) {
    throw new InvalidArgumentError('It must be FROM..TO, ISO times.');
  }
  return { from, to };
}

async function run(flags: RelayFlags): Promise<void> {
  const options = optionsOf(flags);
  if (flags.dryRun === true) {
    await dryRun(options, flags);
    return;
  }
  const stop = new AbortController();
  firstSignal().then(() => stop.abort());
  let toldAtMs = 0;
  const account = await relay({
    ...options,
    signal: stop.signal,
    onError: ({ code, message }) => console.error(`${code}: ${message}`),
    onProgress: (now) => {
      if (flags.json === true || performance.now() - toldAtMs < PROGRESS_MS) return;
      toldAtMs = performance.now();
      console.log(textOf(now));
    },
  });
  console.log(flags.json === true ? JSON.stringify(account) : textOf(account));
  process.exit(account.rejected + account.bad === 0 ? 0 : 1);
}

function optionsOf(flags: RelayFlags): RelayOptions {
  const { metrics, metricsHost } = flags;
  const server =
    metrics === undefined
      ? undefined
      : { port: metrics, ...(metricsHost === undefined ? {} : { host: metricsHost }) };
  const given = {
    url: flags.url,
    appId: flags.appid,
    toFiles: flags.toFiles,
    subjectPrefix: flags.prefix,
    partitions: flags.partitions,
    group: flags.group,
    batchSize: flags.batch,
    leaseMs: flags.lease,
    deadLetter: flags.deadLetter,
    trim: flags.trim,
    replay: flags.replay,
    once: flags.once,
    credentials: flags.creds,
    mechanism: flags.mechanism,
    tls: flags.tls,
    metricsServer: server,
  };
  const known = Object.entries(given).filter(([, value]) => value !== undefined);
  return { from: flags.from, ...Object.fromEntries(known) };
}

async function dryRun(options: RelayOptions, flags: RelayFlags): Promise<void> {
  const states = await relayState(options);
  if (flags.json === true) {
    console.log(JSON.stringify(states));
    return;
  }
  for (const { partition, owner, settled, lag } of states) {
    const whose = owner === undefined ? '' : owner === '' ? ' is free' : ` is read by ${owner}`;
    console.log(`partition ${partition}${whose}: settled up to ${settled}, ${lag} messages behind`);
  }
  const place = flags.toFiles ?? flags.url ?? '';
  console.log(`A relay would take its share of these and deliver to ${place}.`);
}

function textOf(account: RelayAccount): string {
  const { partitions, members, records, delivered, rejected, lag, isConnected } = account;
  const state = isConnected ? '' : 'waiting for the broker; ';
  const others = members === undefined ? '' : `, ${members} relays`;
  return `${state}${partitions} partitions${others}: ${records} read, ${delivered} delivered, ${rejected} refused, ${lag} messages behind`;
}
