import os

import tally
from celery import Celery

SOCKET = os.environ["BENCH_REDIS"]

app = Celery(
    "bench",
    broker=f"redis+socket://{SOCKET}?virtual_host=0",
    backend=f"redis+socket://{SOCKET}?virtual_host=1",
)
app.conf.worker_prefetch_multiplier = 128
app.conf.broker_connection_retry_on_startup = True


@app.task
def noop(number: int) -> None:
    tally.mark(number)
