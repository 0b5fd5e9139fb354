import { AsyncBatchConsumer } from '../../src/index.ts';
import { TestReceiver } from '../support.ts';
import { kafkaStages } from './kafka-stages.ts';
import { HTTP_SENDER, type Load, makeLoad, runSender, SENDER } from './load.ts';
import { natsStages, type StageSet } from './nats-stages.ts';

/** What there is to measure with the receiver alone. */
async function httpStages({ records }: Load): Promise<StageSet> {
  const receiver = await TestReceiver.start(['--mode', 'count']);
  const options = { url: receiver.url, appId: 'A', ...SENDER };
  return {
    stages: [
      {
        id: HTTP_SENDER,
        title: 'sender by HTTP, gzip',
        run: () => runSender(new AsyncBatchConsumer(options), { records, broker: undefined }),
      },
    ],
    close: async () => receiver.stop(),
  };
}

const SETS = { http: httpStages, nats: natsStages, kafka: kafkaStages };

/**
 * The process of one stage, with a broker of its own: `stage-process.js SET RECORDS`. It tells what stages there are, then runs those it
 * is asked for, until nobody asks any more.
 */
const [, , name = '', records = ''] = process.argv;
const set = await SETS[name as keyof typeof SETS](makeLoad(Number(records)));
// Also when whoever asked is gone.
process.on('disconnect', async () => {
  await set.close();
  process.exit(0);
});
process.on('message', async (message) => {
  const stage = set.stages.find(({ id }) => id === message);
  if (stage === undefined) throw new Error(`no stage ${String(message)} in ${name}`);
  process.send?.(await stage.run());
});
process.send?.(set.stages.map(({ run: _, ...facts }) => facts));
