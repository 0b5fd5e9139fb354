import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { Analytics, AsyncBatchConsumer } from 'millrace';

/** A module for Nest: import it once, inject `Analytics` anywhere. */
export class AnalyticsModule {
  static forRoot(options) {
    return {
      module: AnalyticsModule,
      global: true,
      providers: [
        { provide: Analytics, useFactory: () => new Analytics(new AsyncBatchConsumer(options)) },
        {
          // Nest calls this hook after the controllers have ended.
          provide: 'ANALYTICS_END',
          inject: [Analytics],
          useFactory: (ta) => ({
            onApplicationShutdown: async () => {
              console.log(JSON.stringify(await ta.close({ timeoutMs: 20_000 })));
            },
          }),
        },
      ],
      exports: [Analytics],
    };
  }
}

/** Any service of the game. */
class Players {
  constructor(ta) {
    this.ta = ta;
  }

  login(player) {
    this.ta.track({ accountId: player, event: 'login' });
  }
}

class GameModule {
  static make() {
    const options = { url: process.env.RECEIVER_URL, appId: process.env.APP_ID };
    return {
      module: GameModule,
      imports: [AnalyticsModule.forRoot(options)],
      providers: [{ provide: Players, inject: [Analytics], useFactory: (ta) => new Players(ta) }],
    };
  }
}

const app = await NestFactory.createApplicationContext(GameModule.make(), { logger: ['error'] });
app.enableShutdownHooks();
app.get(Players).login('player-1');
// A server with HTTP waits by itself; this one has nothing else to do.
const alive = setInterval(() => {}, 1000);
process.once('SIGTERM', () => clearInterval(alive));
console.log('listening 0');
