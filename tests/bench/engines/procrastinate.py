"""Procrastinate with one job a step, each of which defers the next one: rows in Postgres."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

from procrastinate import App, PsycopgConnector

from tests.bench.engines import Submit, floor
from tests.bench.work import DATABASE, OVERFLOW, POOL, STEPS, THREADS, Rows, Work

app = App(
    connector=PsycopgConnector(conninfo=os.environ.get(DATABASE, ""), max_size=POOL + OVERFLOW)
)
_work: Work | None = None


@app.task(name="step", retry=5)
async def step(job: str, place: int) -> None:
    assert _work is not None, "made when the worker starts"
    await asyncio.to_thread(_work.do, UUID(job), STEPS[place])
    if place + 1 < len(STEPS):
        await step.defer_async(job=job, place=place + 1)


def prepare() -> None:
    floor.prepare()
    with app.open():
        app.schema_manager.apply_schema()


@contextmanager
def submitter() -> Iterator[Submit]:
    rows = Rows()

    def submit(job: UUID) -> None:
        rows.insert(job)
        step.defer(job=str(job), place=0)

    with app.open():
        yield submit


async def _serve(threads: int) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads))
    async with app.open_async():
        await app.run_worker_async(concurrency=threads)


if __name__ == "__main__":
    _work = Work()
    asyncio.run(_serve(int(os.environ[THREADS])))
