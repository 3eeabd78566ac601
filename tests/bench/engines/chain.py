"""A bare Celery chain: one task a step, one status row a step, acknowledged late.

As one would write it: what a chain loses when a worker, Redis or Postgres dies is lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import celery
import celery.signals

from tests.bench.engines import Submit
from tests.bench.engines.floor import prepare
from tests.bench.work import BROKER, STEPS, THREADS, Rows, Work

__all__ = ["app", "prepare", "submitter"]

app = celery.Celery("chain", broker=os.environ.get(BROKER), set_as_current=False)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"max_connections": 256},
)
_work: Work | None = None


@celery.signals.worker_init.connect(weak=False)
def _open(**_: Any) -> None:
    global _work  # noqa: PLW0603 -- one of each per process
    _work = Work()


@app.task(name="step", autoretry_for=(OSError,), retry_backoff=True, max_retries=5)
def step(job: str, name: str) -> None:
    assert _work is not None, "made when the worker starts"
    _work.do(UUID(job), name)


@contextmanager
def submitter() -> Iterator[Submit]:
    rows = Rows()

    def submit(job: UUID) -> None:
        rows.insert(job)
        celery.chain(*(step.si(str(job), name) for name in STEPS)).apply_async()

    yield submit


if __name__ == "__main__":
    quiet = ["--without-gossip", "--without-mingle", "-l", "warning"]
    pool = ["-P", "threads", "--concurrency", os.environ[THREADS]]
    app.worker_main(["worker", *pool, *quiet, "-n", f"chain{os.getpid()}@%h"])
