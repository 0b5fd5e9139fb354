import express from 'express';
import { Analytics, AsyncBatchConsumer } from 'millrace';

const ta = new Analytics(
  new AsyncBatchConsumer({ url: process.env.RECEIVER_URL, appId: process.env.APP_ID }),
);

const app = express();
app.post('/login/:player', (request, response) => {
  ta.track({ accountId: request.params.player, event: 'login', ip: request.ip });
  response.json({ ok: true });
});
app.get('/metrics', async (_request, response) => {
  response.type(ta.register.contentType).send(await ta.register.metrics());
});

const server = app.listen(Number(process.env.PORT), () => {
  console.log(`listening ${server.address().port}`);
});
process.once('SIGTERM', () => {
  // Requests end first, then what they tracked is delivered.
  server.close(async () => console.log(JSON.stringify(await ta.close({ timeoutMs: 20_000 }))));
  server.closeIdleConnections();
});
