"""The job that every engine does, with the same libraries.

It has as many steps as the pipeline, each of them one outside call and one committed row write; the
last one also writes the record of what was brought in.

What differs is the engine. Trunkline's steps make the same calls; its rows are its own.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final
from uuid import UUID

import urllib3
from sqlalchemy import Connection, create_engine, make_url, text

from worker.domain.job import StepName

STEPS: Final = tuple(StepName)
#: What a process keeps open to the database at most, for its own rows: as Trunkline's settings.
POOL: Final = 10
OVERFLOW: Final = 20

#: What the workers and the producer of an engine get to know, each by this variable.
DATABASE: Final = "BENCH_DATABASE_URL"
BROKER: Final = "BENCH_BROKER_URL"
VENDOR: Final = "BENCH_VENDOR_URL"
THREADS: Final = "BENCH_THREADS"
PLACE: Final = "BENCH_PLACE"
RUN_DIR: Final = "BENCH_RUN_DIR"

SCHEMA: Final = """
    CREATE TABLE jobs (
        id uuid PRIMARY KEY,
        step text,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz,
        finished_at timestamptz
    );
    CREATE TABLE records (
        job_id uuid PRIMARY KEY,
        number_id text NOT NULL,
        made_at timestamptz NOT NULL DEFAULT now()
    );
"""
_INSERT: Final = text("INSERT INTO jobs (id) VALUES (:job)")
_UPDATE: Final = text("UPDATE jobs SET step = :step, updated_at = now() WHERE id = :job")
_FINISH: Final = text(
    "UPDATE jobs SET step = :step, updated_at = now(), finished_at = clock_timestamp()"
    " WHERE id = :job"
)
_RECORD: Final = text(
    "INSERT INTO records (job_id, number_id) VALUES (:job, :number) ON CONFLICT DO NOTHING"
)
#: A held call lasts until all workers have started.
_TIMEOUT: Final = urllib3.Timeout(connect=5, read=120)


class Calls:
    """One process' connections to the vendor."""

    def __init__(self) -> None:
        url = urllib3.util.parse_url(os.environ[VENDOR])
        self._pool = urllib3.HTTPConnectionPool(
            str(url.host), url.port, maxsize=int(os.environ[THREADS]), timeout=_TIMEOUT
        )

    def call(self, job: UUID, step: str) -> str:
        """Makes the call of a step and returns the id of what it made."""
        body = json.dumps({"job": str(job), "step": step}).encode()
        headers = {"Content-Type": "application/json"}
        answer = self._pool.request(
            "POST", f"/{job}/{step}", body=body, headers=headers, retries=False
        )
        if answer.status != 200:
            raise OSError(f"the vendor answered {answer.status}")
        made: str = answer.json()["id"]
        return made


class Work:
    """One process' connections to the vendor and to the database, and what is done with them."""

    def __init__(self) -> None:
        self._calls = Calls()
        self._rows = Rows()

    def do(self, job: UUID, step: str) -> str:
        """Does one step: the call, then the row."""
        made = self._calls.call(job, step)
        self._rows.write(job, step, made)
        return made


class Rows:
    """The rows of the engines that bring none for the job itself."""

    def __init__(self) -> None:
        self._engine = create_engine(
            make_url(os.environ[DATABASE]).set(drivername="postgresql+psycopg"),
            pool_size=POOL,
            max_overflow=OVERFLOW,
            pool_use_lifo=True,
        )
        # A single statement is a transaction by itself, without BEGIN and COMMIT.
        self._single = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    def insert(self, job: UUID) -> None:
        with self._single.connect() as connection:
            _execute(connection, _INSERT, job=job)

    def write(self, job: UUID, step: str, made: str) -> None:
        if step != STEPS[-1]:
            with self._single.connect() as connection:
                _execute(connection, _UPDATE, job=job, step=step)
            return
        with self._engine.begin() as connection:
            _execute(connection, _RECORD, job=job, number=made)
            _execute(connection, _FINISH, job=job, step=step)


def _execute(connection: Connection, statement: Any, **values: object) -> None:
    connection.execute(statement, values)
