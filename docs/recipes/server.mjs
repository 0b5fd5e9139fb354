import { createServer } from 'node:http';
import { Analytics, AsyncBatchConsumer } from 'millrace';

/** The server that the PM2, systemd, Docker and Kubernetes recipes start. */
const ta = new Analytics(
  new AsyncBatchConsumer({
    url: process.env.RECEIVER_URL,
    appId: process.env.APP_ID,
    spool: { directory: process.env.SPOOL_DIRECTORY, maxBytes: 4 * 1024 ** 3 },
  }),
  { metricsServer: { port: Number(process.env.METRICS_PORT ?? 9464), host: '0.0.0.0' } },
);
// At SIGTERM or SIGINT: what waits is delivered, or goes to the spool; then the process ends.
ta.closeOnSignals({ timeoutMs: 30_000 });

const server = createServer((request, response) => {
  ta.track({ accountId: request.url.slice(1), event: 'login' });
  response.end('ok');
});
server.listen(Number(process.env.PORT ?? 8080), () => {
  console.log(`listening ${server.address().port}`);
});
