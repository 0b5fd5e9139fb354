import { Analytics, AsyncBatchConsumer } from 'millrace';
import { WebSocketServer } from 'ws';

/** A server of rooms with a fixed tick, as Colyseus has them: a room tracks what its players do, and its own end. */
const ta = new Analytics(
  new AsyncBatchConsumer({ url: process.env.RECEIVER_URL, appId: process.env.APP_ID }),
  // Positions may give way when the ring fills up, the ends of matches may not.
  { priorities: { move: 'low', match_end: 'high' } },
);
const TICK_MS = 50;
const rooms = new Map();

class Room {
  #players = new Map();
  #ticks = 0;
  #timer = setInterval(() => this.#tick(), TICK_MS);

  constructor(id) {
    this.id = id;
  }

  join(player, socket) {
    this.#players.set(player, 0);
    ta.track({ accountId: player, event: 'join', properties: { room: this.id } });
    socket.on('message', (data) => {
      const x = Number(data);
      this.#players.set(player, x);
      ta.track({ accountId: player, event: 'move', properties: { room: this.id, x } });
      socket.send(`moved ${x}`);
    });
    socket.on('close', () => this.leave(player));
  }

  leave(player) {
    this.#players.delete(player);
    if (this.#players.size === 0) this.end();
  }

  end() {
    clearInterval(this.#timer);
    if (!rooms.delete(this.id)) return;
    ta.track({ distinctId: this.id, event: 'match_end', properties: { ticks: this.#ticks } });
  }

  #tick() {
    this.#ticks += 1;
  }
}

const server = new WebSocketServer({ port: Number(process.env.PORT) });
server.on('connection', (socket, request) => {
  const [, roomId, player] = request.url.split('/');
  if (!rooms.has(roomId)) rooms.set(roomId, new Room(roomId));
  rooms.get(roomId).join(player, socket);
});
server.on('listening', () => console.log(`listening ${server.address().port}`));

process.once('SIGTERM', () => {
  for (const room of rooms.values()) room.end();
  for (const socket of server.clients) socket.terminate();
  server.close(async () => console.log(JSON.stringify(await ta.close({ timeoutMs: 20_000 }))));
});
