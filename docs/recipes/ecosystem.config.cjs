// PM2: a process a core, and time for each to deliver what waits.
module.exports = {
  apps: [
    {
      name: 'game',
      script: 'server.mjs',
      exec_mode: 'cluster',
      instances: 2,
      // PM2 sends SIGINT, which closeOnSignals() hears; its default of 1.6 s would cut the delivery short.
      kill_timeout: 35_000,
      // Shared by the processes; each has a part of its own.
      env: { SPOOL_DIRECTORY: '/var/lib/game/spool' },
    },
  ],
};
