"""Absurd: a task with one checkpointed step each, all of it SQL functions in Postgres."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import absurdctl
import psycopg
from absurd_sdk import Absurd

from tests.bench.engines import Submit, floor
from tests.bench.work import DATABASE, STEPS, THREADS, Rows, Work

_QUEUE = "jobs"


def prepare() -> None:
    floor.prepare()
    with psycopg.connect(os.environ[DATABASE], autocommit=True) as connection:
        # As `absurdctl init` does, which needs psql.
        connection.execute(absurdctl.BUNDLED_SCHEMA_SQL)
    absurd = Absurd(os.environ[DATABASE], queue_name=_QUEUE)
    absurd.create_queue()
    absurd.close()


@contextmanager
def submitter() -> Iterator[Submit]:
    rows, absurd = Rows(), Absurd(os.environ[DATABASE], queue_name=_QUEUE)

    def submit(job: UUID) -> None:
        rows.insert(job)
        absurd.spawn("job", {"job": str(job)}, queue=_QUEUE)

    yield submit
    absurd.close()


def main() -> None:
    absurd, work = Absurd(os.environ[DATABASE], queue_name=_QUEUE), Work()

    @absurd.register_task("job")
    def run(params: Any, ctx: Any) -> None:
        job = UUID(params["job"])
        for name in STEPS:
            ctx.step(name, lambda name=name: work.do(job, name))

    absurd.start_worker(concurrency=int(os.environ[THREADS]))


if __name__ == "__main__":
    main()
