import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createServer, type Server } from 'node:tls';
import { metricIn, until } from '../support.ts';
import { type Certificate, certificateFor } from './certificate.ts';
import {
  assertNoLoss,
  type Drill,
  type DrillTools,
  delay,
  type Finding,
  optionsOf,
  reconcile,
} from './drill.ts';
import { NameServer } from './name-server.ts';
import { Receiver, Sender } from './stage.ts';

const NAME_SERVER = '127.53.0.1';
const OLD_ADDRESS = '127.53.0.11';
const NEW_ADDRESS = '127.53.0.12';
const DEAD_ADDRESS = '127.53.0.13';

async function renamed({ pick }: DrillTools): Promise<Finding> {
  const names = await NameServer.start(NAME_SERVER);
  const old = await Receiver.start({ host: OLD_ADDRESS });
  const next = await Receiver.start({ host: NEW_ADDRESS, port: old.port });
  const phaseMs = pick({ quick: 500, usual: 2000, full: 30_000 });
  const sender = new Sender(
    {
      options: optionsOf({ url: `http://receiver.drill:${old.port}` }),
      from: 0,
      to: Math.ceil((phaseMs * 6) / 10) * 20,
      perTick: 20,
      tickMs: 10,
      end: 'close',
    },
    { launcher: names.launcher },
  );
  for (const answer of ['silence', 'no such name', { address: DEAD_ADDRESS }] as const) {
    names.answer = answer;
    const asked = names.askedMs.length;
    // The first questions may be of attempts that have run out of their time already.
    await until(() => names.askedMs.length > asked + 3, 'the name is asked for');
    await delay(phaseMs);
  }
  names.answer = { address: OLD_ADDRESS };
  await until(async () => (await old.process.snapshot()).records > 0, 'the old address has some');
  // The host moves: the old address takes connections still, and nobody answers there.
  await old.process.setFaults([{ action: { kind: 'hang' } }]);
  names.answer = { address: NEW_ADDRESS };
  const movedMs = Date.now();
  await until(async () => (await next.process.snapshot()).records > 0, 'the new address has some');
  const tookMs = Date.now() - movedMs;
  const stats = await sender.finish();
  await old.stop();
  await next.stop();
  await names.stop();
  const dnsRetries = metricIn(sender.metrics, 'millrace_requests_total', 'code="dns"');
  assert.ok(dnsRetries > 0, 'names that lead nowhere are counted');
  assert.ok(tookMs < 60_000, `the dead address was used for ${tookMs} ms`);
  const numbers = [...old.numbers(), ...next.numbers()];
  const measured = `new address in use after ${tookMs} ms, ${dnsRetries} attempts counted dns`;
  return { ...assertNoLoss(reconcile(stats, numbers)), measured };
}

/** What a load balancer does: it ends TLS, and hands the bytes on. Its certificate can be changed. */
class TlsFront {
  readonly url: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, port: number, receiverPort: number) {
    this.#server = server;
    this.url = `https://127.0.0.1:${port}`;
    server.on('secureConnection', (socket) => {
      const behind = connect(receiverPort, '127.0.0.1');
      for (const end of [socket, behind]) {
        this.#sockets.add(end);
        end.on('close', () => this.#sockets.delete(end));
        end.on('error', () => {
          // One end has gone; the other follows.
          behind.destroy();
          socket.destroy();
        });
      }
      socket.pipe(behind).pipe(socket);
    });
  }

  static async start(certificate: Certificate, receiver: Receiver): Promise<TlsFront> {
    const server = createServer({ ...certificate }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    return new TlsFront(server, port, receiver.port);
  }

  use(certificate: Certificate): void {
    this.#server.setSecureContext({ ...certificate });
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

const DAY_MS = 86_400_000;
/** Long enough for a sender to start on a machine that has much to do. */
const FIRST_LIFE_MS = 15_000;

/** Certificates have whole seconds. */
async function untilOver(date: Date): Promise<void> {
  await delay(date.getTime() - Date.now() + 1000);
}

async function expired({ pick }: DrillTools): Promise<Finding> {
  const phaseMs = pick({ quick: 500, usual: 3000, full: 60_000 });
  const from = new Date(Date.now() - DAY_MS);
  const ends = new Date(Date.now() + FIRST_LIFE_MS);
  const first = certificateFor({ from, to: ends });
  const renewed = certificateFor({ from, to: new Date(Date.now() + DAY_MS) });
  const receiver = await Receiver.start();
  const front = await TlsFront.start(first, receiver);
  const sender = new Sender({
    options: optionsOf(front, { ca: first.cert + renewed.cert }),
    from: 0,
    to: Math.ceil((phaseMs + FIRST_LIFE_MS + 2000) / 10) * 20,
    perTick: 20,
    tickMs: 10,
    end: 'close',
  });
  const records = async () => (await receiver.process.snapshot()).records;
  await until(async () => (await records()) > 0, 'a valid certificate is taken');
  await untilOver(ends);
  front.cut();
  await delay(500);
  const before = await records();
  await delay(phaseMs);
  assert.equal(await records(), before, 'nothing goes to a host whose certificate is expired');
  front.use(renewed);
  const stats = await sender.finish();
  await front.stop();
  await receiver.stop();
  const attempts = metricIn(sender.metrics, 'millrace_requests_total', 'code="tls"');
  const retries = metricIn(sender.metrics, 'millrace_retries_total', 'reason="tls"');
  assert.ok(attempts > 0 && retries > 0, `${attempts} attempts, ${retries} retries counted as tls`);
  const measured = `${attempts} attempts counted tls`;
  return { ...assertNoLoss(reconcile(stats, receiver.numbers())), measured };
}

/** What becomes of the way to the receiver. */
export const NETWORK_DRILLS: readonly Drill[] = [
  {
    row: 'F10',
    id: 'F10',
    fault:
      'a DNS server that is silent, knows no such name, gives a dead address, and another one when the host moves',
    promise: 'all arrive, no restart',
    run: renamed,
  },
  {
    row: 'F11',
    id: 'F11',
    fault: 'a TLS certificate expires while records are sent, and is renewed',
    promise: 'all arrive, no restart; none while it is expired',
    run: expired,
  },
];
