import Fastify from 'fastify';
import { Analytics, AsyncBatchConsumer } from 'millrace';

// One client for the whole process; routes use it as app.ta.
const ta = new Analytics(
  new AsyncBatchConsumer({ url: process.env.RECEIVER_URL, appId: process.env.APP_ID }),
);

const app = Fastify();
app.decorate('ta', ta);
// Requests end first, then what they tracked is delivered.
app.addHook('onClose', async () => {
  console.log(JSON.stringify(await ta.close({ timeoutMs: 20_000 })));
});

app.post('/login/:player', async (request) => {
  app.ta.track({ accountId: request.params.player, event: 'login', ip: request.ip });
  return { ok: true };
});
app.get('/metrics', async (_request, reply) => {
  reply.type(ta.register.contentType);
  return ta.register.metrics();
});

process.once('SIGTERM', () => app.close());
await app.listen({ port: Number(process.env.PORT) });
console.log(`listening ${app.server.address().port}`);
