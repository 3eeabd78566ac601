"""The floor: a bare thread pool that does the calls and writes the rows, with no queue at all.

A process takes the jobs that are in the table when it starts; later ones are told it by datagram,
which nobody could call a queue: what is lost is lost.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psycopg

from tests.bench.engines import Submit
from tests.bench.work import DATABASE, PLACE, RUN_DIR, SCHEMA, STEPS, THREADS, Rows, Work

#: With those that are done: every second one is a process's, whatever the other has done by then.
_BACKLOG = "SELECT id, finished_at IS NULL FROM jobs ORDER BY created_at"


def prepare() -> None:
    with psycopg.connect(os.environ[DATABASE], autocommit=True) as connection:
        connection.execute(SCHEMA)


@contextmanager
def submitter() -> Iterator[Submit]:
    rows, places = Rows(), itertools.cycle((0, 1))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:

        def submit(job: UUID) -> None:
            rows.insert(job)
            # While nobody listens the job waits in the table.
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                sender.sendto(job.bytes, str(_address(next(places))))

        yield submit


def _address(place: int) -> Path:
    return Path(os.environ[RUN_DIR]) / f"floor-{place}"


def main() -> None:
    place, work, taken = int(os.environ[PLACE]), Work(), set[UUID]()

    def do(job: UUID) -> None:
        for step in STEPS:
            work.do(job, step)

    def take(job: UUID) -> None:
        if job not in taken:
            taken.add(job)
            pool.submit(do, job)

    with (
        ThreadPoolExecutor(int(os.environ[THREADS])) as pool,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        # Listens before it looks: a job that comes in between is told twice rather than never.
        _address(place).unlink(missing_ok=True)
        receiver.bind(str(_address(place)))
        with psycopg.connect(os.environ[DATABASE]) as connection:
            backlog = connection.execute(_BACKLOG).fetchall()
        for job, is_left in backlog[place::2]:
            if is_left:
                take(job)
        # The thread that receives must not be in the way of a signal.
        threading.Thread(target=_receive, args=(receiver, take), daemon=True).start()
        threading.Event().wait()


def _receive(receiver: socket.socket, take: Submit) -> None:
    while True:
        take(UUID(bytes=receiver.recv(16)))


if __name__ == "__main__":
    main()
