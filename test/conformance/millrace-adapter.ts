import { Analytics, AsyncBatchConsumer, DebugConsumer, LoggingConsumer } from '../../src/index.ts';
import { answerRequests, type Request } from './adapter.ts';

/** Millrace as `millrace conform` drives it. */

let ta: Analytics | undefined;

function open({
  mode,
  url,
  appId,
  directory,
  batchSize,
  compress,
  rotate,
  prefix,
}: Request): Analytics {
  // Time enough at the end of the program, on slow machines too.
  const http = { url: String(url), appId: String(appId), exitFlushMs: 20_000 };
  const onError = () => {
    // What goes wrong at the receiver is what the cases are about.
  };
  if (mode === 'debug') return new Analytics(new DebugConsumer(http), { onError });
  if (mode === 'file') {
    const consumer = new LoggingConsumer({
      directory: String(directory),
      exitFlushMs: 20_000,
      ...(rotate === 'hour' ? { rotate: 'hour' as const } : {}),
      ...(prefix === undefined ? {} : { prefix: String(prefix) }),
    });
    return new Analytics(consumer, { onError });
  }
  const consumer = new AsyncBatchConsumer({
    ...http,
    batchSize: Number(batchSize ?? 20),
    compress: compress !== false,
  });
  return new Analytics(consumer, { onError });
}

answerRequests(async (request) => {
  const { do: verb, property, properties, times: _, ...fields } = request;
  if (verb === 'init') {
    ta = open(request);
    return undefined;
  }
  if (ta === undefined) throw new Error('init comes first');
  if (verb === 'flush') await ta.flush({ timeoutMs: 20_000 });
  else if (verb === 'close') await ta.close({ timeoutMs: 20_000 });
  else if (verb === 'clearSuperProperties') ta.clearSuperProperties();
  else if (verb === 'setSuperProperties') ta.setSuperProperties(properties as never);
  else {
    const own = verb === 'userUnset' ? [property] : properties;
    const call: unknown = Reflect.get(ta, verb);
    if (typeof call !== 'function') return 'unsupported';
    Reflect.apply(call, ta, [{ ...fields, properties: own }]);
  }
  return undefined;
});
