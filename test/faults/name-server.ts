import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { newDirectory } from '../support.ts';

const HEADER_BYTES = 12;
const QUERY_TAIL_BYTES = 4;
const TYPE_A = 1;
const FLAGS_ANSWER = 0x8180;
const RCODE_NAME_ERROR = 3;
/** A name by a pointer to the question, type A, class IN, no time to live, four bytes. */
const ANSWER_HEAD: readonly number[] = [0xc0, HEADER_BYTES, 0, TYPE_A, 0, 1, 0, 0, 0, 0, 0, 4];

/** What the server says of every name: an address, that there is no such name, or nothing at all. */
export type NameAnswer = { readonly address: string } | 'no such name' | 'silence';

/**
 * A DNS server on an address of its own, and the words that let a process ask it: in a mount namespace where /etc/resolv.conf
 * names it. So the system's own resolver is in the way, as in production. Needs Linux, `unshare`, and root.
 */
export class NameServer {
  answer: NameAnswer = 'no such name';
  /** When it was asked, in ms since 1970. */
  readonly askedMs: number[] = [];
  readonly launcher: readonly string[];
  readonly #socket: Socket;

  private constructor(socket: Socket, launcher: readonly string[]) {
    this.#socket = socket;
    this.launcher = launcher;
    socket.on('message', (query, from) => {
      this.askedMs.push(Date.now());
      const reply = this.#replyTo(query);
      if (reply !== undefined) socket.send(reply, from.port, from.address);
    });
  }

  static async start(address: string): Promise<NameServer> {
    const socket = createSocket('udp4').bind(53, address);
    await once(socket, 'listening');
    const file = join(newDirectory(), 'resolv.conf');
    writeFileSync(file, `nameserver ${address}\noptions timeout:1 attempts:1\n`);
    const script = `mount --bind ${file} /etc/resolv.conf && exec "$@"`;
    return new NameServer(socket, ['unshare', '--mount', 'sh', '-c', script, 'sh']);
  }

  async stop(): Promise<void> {
    this.#socket.close();
    await once(this.#socket, 'close');
  }

  #replyTo(query: Buffer): Buffer | undefined {
    if (this.answer === 'silence') return undefined;
    const end = query.indexOf(0, HEADER_BYTES) + 1 + QUERY_TAIL_BYTES;
    const type = query.readUInt16BE(end - QUERY_TAIL_BYTES);
    const isMissing = this.answer === 'no such name';
    const address = typeof this.answer === 'object' && type === TYPE_A ? this.answer.address : '';
    const head = Buffer.alloc(HEADER_BYTES);
    query.copy(head, 0, 0, 2);
    head.writeUInt16BE(FLAGS_ANSWER | (isMissing ? RCODE_NAME_ERROR : 0), 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(address === '' ? 0 : 1, 6);
    const answer = address === '' ? [] : [...ANSWER_HEAD, ...address.split('.').map(Number)];
    return Buffer.concat([head, query.subarray(HEADER_BYTES, end), Buffer.from(answer)]);
  }
}
