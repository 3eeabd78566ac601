"""DBOS: a workflow with one checkpointed, retried step each, from a queue in Postgres."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from dbos import DBOS, DBOSClient

from tests.bench.engines import Submit, floor
from tests.bench.work import DATABASE, OVERFLOW, PLACE, POOL, STEPS, THREADS, Rows, Work

_QUEUE = "jobs"
_VERSION = "1"
_work: Work | None = None


@DBOS.step(name="step", retries_allowed=True)
def step(job: str, name: str) -> str:
    assert _work is not None, "made when the worker starts"
    return _work.do(UUID(job), name)


@DBOS.workflow(name="job")
def run(job: str) -> None:
    for name in STEPS:
        step(job, name)


def _launch(executor: str) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": os.environ[DATABASE],
            # The default of 20 connections would be fewer than the others have.
            "sys_db_pool_size": POOL + OVERFLOW,
            "executor_id": executor,
            "application_version": _VERSION,
            "log_level": "WARNING",
        }
    )
    DBOS.launch()
    # Its poll interval stays the default, 1 s: a shorter one costs CPU all day.
    DBOS.register_queue(_QUEUE, worker_concurrency=int(os.environ[THREADS]))


def prepare() -> None:
    floor.prepare()
    _launch("prepare")
    DBOS.destroy()


@contextmanager
def submitter() -> Iterator[Submit]:
    rows, client = Rows(), DBOSClient(system_database_url=os.environ[DATABASE])

    def submit(job: UUID) -> None:
        rows.insert(job)
        client.enqueue(
            {"workflow_name": "job", "queue_name": _QUEUE, "app_version": _VERSION}, str(job)
        )

    try:
        yield submit
    finally:
        client.destroy()


if __name__ == "__main__":
    _work = Work()
    _launch(f"worker{os.environ[PLACE]}")
    threading.Event().wait()
