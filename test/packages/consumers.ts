import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A user's program, and what it prints when all is well. */
export interface Consumer {
  readonly name: string;
  readonly expected: string;
  readonly needsRequire: boolean;
  /** Writes the program into a folder, and gives the arguments Node runs it with. */
  readonly argsIn: (folder: string, url: string, major?: number) => string[];
}

const MODULE = `import { Analytics, AsyncBatchConsumer } from 'millrace';
const ta = new Analytics(new AsyncBatchConsumer({ url: process.argv[2], appId: 'A', workers: 1 }));
ta.track({ accountId: 'u', event: 'packed' });
console.log((await ta.close()).delivered);`;

const COMMON = `const { Analytics, AsyncBatchConsumer } = require('millrace');
const ta = new Analytics(new AsyncBatchConsumer({ url: process.argv[2], appId: 'A', workers: 1 }));
ta.track({ accountId: 'u', event: 'packed' });
ta.close().then(({ delivered }) => console.log(delivered));`;

const DROP_IN = `const TA = require('millrace/thinkingdata');
TA.mayBeChanged = true;
const te = TA.initWithAsyncBatchMode('A', process.argv[2], { interval: 5 });
te.track({ accountId: 'u', event: 'packed', callback: (error) => { console.log('heard', error); te.close(); } });`;

const FILES = `import { readFileSync, readdirSync } from 'node:fs';
import { Analytics, LoggingConsumer } from 'millrace';
const ta = new Analytics(new LoggingConsumer('logs-' + process.version));
ta.track({ accountId: 'u', event: 'packed' });
const { delivered } = await ta.close();
console.log(delivered);`;

/** The permissions of a server that logs to files: reads its folder, writes logs, starts threads. */
function permissions(folder: string, major: number): string[] {
  const model = major < 22 ? '--experimental-permission' : '--permission';
  // From Node 25 on the model covers the network, too.
  const net = major >= 25 ? ['--allow-net'] : [];
  return [
    model,
    `--allow-fs-read=${folder}`,
    `--allow-fs-write=${folder}`,
    '--allow-worker',
    ...net,
    '--no-warnings',
  ];
}

function program(file: string, text: string): (folder: string, url: string) => string[] {
  return (folder, url) => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, file), text);
    return [file, url];
  };
}

const packed = program('app.mjs', MODULE);
const files = program('files.mjs', FILES);
const [major = 20] = process.versions.node.split('.').map(Number);

type ConsumerName = 'module' | 'files' | 'common' | 'dropIn' | 'permitted' | 'permittedFiles';

export const CONSUMERS: Readonly<Record<ConsumerName, Consumer>> = {
  module: { name: 'an ES module', expected: '1', needsRequire: false, argsIn: packed },
  files: {
    name: 'an ES module that logs to files',
    expected: '1',
    needsRequire: false,
    argsIn: files,
  },
  common: {
    name: 'a CommonJS module',
    expected: '1',
    needsRequire: true,
    argsIn: program('app.cjs', COMMON),
  },
  dropIn: {
    name: 'require of the drop-in',
    expected: 'heard undefined',
    needsRequire: true,
    argsIn: program('drop-in.cjs', DROP_IN),
  },
  permitted: {
    name: 'HTTP under the permission model',
    expected: '1',
    needsRequire: false,
    argsIn: (folder: string, url: string, of = major) => [
      ...permissions(folder, of),
      ...packed(folder, url),
    ],
  },
  permittedFiles: {
    name: 'files under the permission model',
    expected: '1',
    needsRequire: false,
    argsIn: (folder: string, url: string, of = major) => [
      ...permissions(folder, of),
      ...files(folder, url),
    ],
  },
};

/** A program that has to compile. */
export const TYPED = `import { Analytics, AsyncBatchConsumer } from 'millrace';
import TA, { type TDTrackEvent } from 'millrace/thinkingdata';

const ta = new Analytics(new AsyncBatchConsumer({ url: 'http://127.0.0.1', appId: 'A' }));
const isIn: boolean = ta.track({ accountId: 'u', event: 'typed', properties: { level: 1 } });
// @ts-expect-error no such field
ta.track({ accountId: 'u', evnt: 'typed' });

const event: TDTrackEvent = {
  accountId: 'u',
  event: 'typed',
  callback: (error: Error) => void error,
};
TA.initWithAsyncBatchMode('A', 'http://127.0.0.1', { batchSize: 10 }).track(event);

export { isIn };
`;
