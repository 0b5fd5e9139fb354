import { createRequire } from 'node:module';
import { setTimeout as delay } from 'node:timers/promises';
import { answerRequests, type Request } from './adapter.ts';

/** `thinkingdata-node`, or what MILLRACE_CONFORM_PACKAGE names in its place, as `millrace conform` drives it. */

const require = createRequire(import.meta.url);
const TA = require(process.env.MILLRACE_CONFORM_PACKAGE ?? 'thinkingdata-node');
/** A callback that has not been called by then does not come: that package calls only some. */
const CALLBACK_MS = 300;

let te: { [verb: string]: (argument?: unknown) => void } | undefined;
let mode: unknown;

function open(request: Request): typeof te {
  const { url, appId, directory, batchSize, compress, rotate, prefix } = request;
  mode = request.mode;
  if (mode === 'debug') return TA.initWithDebugMode(appId, url, { deviceId: '' });
  if (mode === 'file') {
    return TA.initWithLoggingMode(directory, {
      rotateHourly: rotate === 'hour',
      filePrefix: prefix,
    });
  }
  return TA.initWithAsyncBatchMode(appId, url, { batchSize, compress });
}

const VERBS: Readonly<Record<string, string>> = { trackOverwrite: 'trackOverWrite' };

answerRequests(async ({ do: verb, ...fields }) => {
  if (verb === 'init') {
    te = open({ do: verb, ...fields });
    return undefined;
  }
  const call = te?.[VERBS[verb] ?? verb]?.bind(te);
  if (call === undefined) return 'unsupported';
  if (verb === 'setSuperProperties') call(fields.properties);
  else if (verb === 'clearSuperProperties' || verb === 'close') call();
  else if (verb === 'flush') {
    await Promise.race([new Promise((resolve) => call(resolve)), delay(CALLBACK_MS)]);
  } else {
    let told: Error | undefined;
    const heard = new Promise<void>((resolve) => {
      const callback = (error?: Error) => {
        told = error;
        resolve();
      };
      call({ ...fields, callback });
    });
    // A wrong call is told at once; the outcome only matters in debug mode.
    if (mode === 'debug') await Promise.race([heard, delay(CALLBACK_MS * 10)]);
    if (told !== undefined) throw told;
  }
  return undefined;
});
