// One worker process, with the settings for which graphile-worker's documentation states its speed.

"use strict";

process.env.NO_LOG_SUCCESS = "1"; // else it writes a line for each job; its own benchmark does not

const { constants, openSync, writeSync } = require("node:fs");
const { performance } = require("node:perf_hooks");
const { run } = require("graphile-worker");

const preset = {
  worker: {
    connectionString: process.env.BENCH_DATABASE,
    concurrentJobs: 24,
    maxPoolSize: 25,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  },
};

// What arena/tally.py does.
const { O_APPEND, O_CREAT, O_WRONLY } = constants;
const tally = openSync(process.env.BENCH_TALLY, O_WRONLY | O_CREAT | O_APPEND, 0o600);
const record = Buffer.alloc(12);

function mark(number) {
  const microseconds = Math.round((performance.timeOrigin + performance.now()) * 1000);
  record.writeUInt32LE(number, 0);
  record.writeBigInt64LE(BigInt(microseconds) * 1000n, 4);
  writeSync(tally, record);
}

async function main() {
  const taskList = { noop: async ({ number }) => mark(number) };
  const runner = await run({ preset, taskList });
  await runner.promise;
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
