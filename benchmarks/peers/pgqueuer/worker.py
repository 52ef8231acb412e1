"""One worker process, started by its own API: the command line's --log-level fails with typer 0.29."""

import asyncio
import os

import asyncpg
import tally
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job


async def main() -> None:
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(os.environ["BENCH_DATABASE"])))

    @queue.entrypoint("noop")
    async def noop(job: Job) -> None:
        tally.mark(int(job.payload or b"0"))

    await queue.run(batch_size=100)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
