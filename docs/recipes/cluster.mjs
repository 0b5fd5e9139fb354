import cluster from 'node:cluster';
import { createServer } from 'node:http';
import { Analytics, LoggingConsumer } from 'millrace';

const WORKERS = 2;

if (cluster.isPrimary) {
  for (let count = 0; count < WORKERS; count += 1) cluster.fork();
  let listening = 0;
  cluster.on('listening', (_worker, { port }) => {
    listening += 1;
    if (listening === WORKERS) console.log(`listening ${port}`);
  });
  process.once('SIGTERM', () => {
    for (const worker of Object.values(cluster.workers)) worker.kill('SIGTERM');
  });
} else {
  // A client in each process, and a file of its own for each: `instance` becomes part of its name.
  const ta = new Analytics(
    new LoggingConsumer({
      directory: process.env.LOG_DIRECTORY,
      instance: `w${cluster.worker.id}`,
    }),
  );
  const server = createServer((request, response) => {
    ta.track({ accountId: request.url.slice(1), event: 'login' });
    response.end('ok');
  });
  server.listen(Number(process.env.PORT));
  process.once('SIGTERM', () => {
    server.close(async () => {
      console.log(JSON.stringify(await ta.close({ timeoutMs: 20_000 })));
      cluster.worker.disconnect();
    });
    server.closeAllConnections();
  });
}
