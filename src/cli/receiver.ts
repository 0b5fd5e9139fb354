import { Command, InvalidArgumentError, Option } from 'commander';
import { MillraceError, systemCodeOf, textOfError } from '../base/errors.ts';
import { type Fault, Receiver } from '../receiver/index.ts';
import { parseCount, parsePort } from './arguments.ts';
import { firstSignal, parentIsGone } from './signals.ts';

interface ReceiverFlags {
  readonly port: number;
  readonly host: string;
  readonly appid?: readonly string[];
  readonly mode: 'strict' | 'count';
  readonly save?: string;
  readonly fault?: readonly Fault[];
  readonly json?: boolean;
}

const COUNTS_MS = 1000;

/** `millrace receiver`: a local receiver to try things with. */
export function receiverCommand(): Command {
  return new Command('receiver')
    .description('a local receiver: both endpoints, strict checks, counts, faults on request')
    .option('--port <port>', 'where to listen; 0: any free port', parsePort, 8991)
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--appid <id...>', 'app ids it knows (default: any)')
    .addOption(
      new Option('--mode <mode>', 'strict: check every record; count: only unpack and count')
        .choices(['strict', 'count'])
        .default('strict'),
    )
    .option('--save <dir>', 'folder that gets every record, one a line')
    .option(
      '--fault <kind[=value][*n]...>',
      'what goes wrong: status=503*10, delay=200, reset=start|body|after, slow=100, code=-2, hang, half, empty, wrong-json, redirect=URL, too-large=BYTES, poison=TEXT; *n: for n requests',
      collectFault,
    )
    .option('--json', 'print the final counts as one JSON object')
    .action(run);
}

async function run(flags: ReceiverFlags): Promise<void> {
  const receiver = await open(flags);
  receiver.setFaults(flags.fault ?? []);
  // A demo that started this process wants to know where it listens.
  process.send?.({ url: receiver.url }, () => {
    // If it is gone, that is noticed below.
  });
  if (flags.json !== true) {
    console.log(
      `receiver listens at ${receiver.url}, a page to look at is ${receiver.url}/live/; Ctrl-C ends it`,
    );
  }
  let last = 0;
  const timer = setInterval(() => {
    const { requests, records, unique, duplicates, refused } = receiver.snapshot();
    if (requests === last || flags.json === true) return;
    last = requests;
    console.log(
      `${records} records in ${requests} requests, ${unique} unique, ${duplicates} repeated, ${refused} refused`,
    );
  }, COUNTS_MS);
  await Promise.race([firstSignal(), parentIsGone()]);
  clearInterval(timer);
  await receiver.close();
  const snapshot = receiver.snapshot();
  if (flags.json === true) console.log(JSON.stringify(snapshot));
  else console.log(snapshot);
}

async function open(flags: ReceiverFlags): Promise<Receiver> {
  try {
    return await Receiver.open({
      port: flags.port,
      host: flags.host,
      mode: flags.mode,
      ...(flags.appid === undefined ? {} : { appIds: flags.appid }),
      ...(flags.save === undefined ? {} : { saveDirectory: flags.save }),
    });
  } catch (error) {
    if (systemCodeOf(error) !== 'EADDRINUSE') throw error;
    const message = `${textOfError(error)}; choose another with --port`;
    throw new MillraceError('MILLRACE_UNAVAILABLE', message, error);
  }
}

function collectFault(text: string, before: readonly Fault[] = []): Fault[] {
  return [...before, parseFault(text)];
}

/** `kind[=value][*n]` as a fault. */
function parseFault(text: string): Fault {
  const match = /^([a-z-]+)(?:=(.*?))?(?:\*(\d+))?$/.exec(text);
  if (match === null)
    throw new InvalidArgumentError('It must be kind, kind=value or kind=value*n.');
  const [, kind = '', value = '', requests] = match;
  const action = actionOf(kind, value);
  return requests === undefined ? { action } : { action, requests: Number(requests) };
}

function actionOf(kind: string, value: string): Fault['action'] {
  switch (kind) {
    case 'status':
      return { kind, status: parseStatus(value) };
    case 'delay':
      return { kind, ms: parseCount(value) };
    case 'slow':
      return { kind, byteMs: parseCount(value) };
    case 'too-large':
      return { kind, bytes: parseCount(value) };
    case 'code':
      return { kind, code: parseCode(value) };
    case 'redirect':
      return { kind, location: parseText(value) };
    case 'poison':
      return { kind, text: parseText(value) };
    case 'reset':
      if (value === 'start' || value === 'body' || value === 'after') return { kind, when: value };
      throw new InvalidArgumentError('reset is =start, =body or =after.');
    case 'hang':
    case 'half':
    case 'empty':
    case 'wrong-json':
      return { kind };
    default:
      throw new InvalidArgumentError(`${kind} is no fault; see --help.`);
  }
}

function parseStatus(text: string): number {
  const status = parseCount(text);
  if (status >= 200 && status <= 599) return status;
  throw new InvalidArgumentError('status is from 200 to 599.');
}

function parseCode(text: string): number {
  const code = Number(text);
  if (text !== '' && Number.isInteger(code)) return code;
  throw new InvalidArgumentError('code is a whole number.');
}

function parseText(text: string): string {
  if (text !== '') return text;
  throw new InvalidArgumentError('It needs a value: kind=value.');
}
