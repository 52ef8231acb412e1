import os
from urllib.parse import urlsplit

import tally
from huey import SqliteHuey

# Its defaults: WAL, synchronous FULL. store_none: a completion is recorded only with a result.
huey = SqliteHuey("bench", filename=urlsplit(os.environ["BENCH_DATABASE"]).path, store_none=True)


@huey.task()
def noop(number: int) -> None:
    tally.mark(number)
