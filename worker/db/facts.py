"""What an operator should know of the database beside whether it answers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select, text

from worker.db.engine import make_engine
from worker.db.models import Credential, ImportJob
from worker.settings import Settings


@dataclass(frozen=True, kw_only=True)
class DatabaseFacts:
    """How one Postgres is set, and what it holds last."""

    #: Seconds that its clock is ahead of this machine's.
    ahead_seconds: float
    #: "on" or "off", as Postgres says them.
    fsync: str
    full_page_writes: str
    #: "off" loses what was told to be stored: a submit that was answered may be gone.
    synchronous_commit: str
    #: Connections that anybody may have at the same time, and how many there are now.
    most_connections: int
    connections: int


def read_facts(settings: Settings) -> DatabaseFacts:
    """Reads how the database is set.

    Raises:
        one of DATABASE_ERRORS: it cannot be reached.

    Safe to repeat: yes, reads only.
    """
    engine = make_engine(settings)
    try:
        with engine.connect() as connection:
            asked = time.time()
            told = connection.execute(
                select(
                    func.extract("epoch", func.clock_timestamp()),
                    func.current_setting("fsync"),
                    func.current_setting("full_page_writes"),
                    func.current_setting("synchronous_commit"),
                    func.current_setting("max_connections"),
                    func.current_setting("superuser_reserved_connections"),
                )
            ).one()
            # The answer was made somewhere between: half of the time counts as an error of ours.
            middle = (asked + time.time()) / 2
            busy = connection.execute(
                text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            ).scalar_one()
    finally:
        engine.dispose()
    return DatabaseFacts(
        ahead_seconds=float(told[0]) - middle,
        fsync=told[1],
        full_page_writes=told[2],
        synchronous_commit=told[3],
        most_connections=int(told[4]) - int(told[5]),
        connections=busy,
    )


def read_newest_sealed(settings: Settings) -> list[bytes]:
    """Returns the newest sealed values of jobs and of accounts; the schema must be there.

    Raises:
        one of DATABASE_ERRORS: it cannot be reached.

    Safe to repeat: yes, reads only.
    """
    engine = make_engine(settings)
    try:
        with engine.connect() as connection:
            found = [connection.execute(query).scalar() for query in _NEWEST]
    finally:
        engine.dispose()
    return [one for one in found if one is not None]


_NEWEST: Final = (
    select(ImportJob.sealed).order_by(ImportJob.id.desc()).limit(1),
    select(Credential.sealed).order_by(Credential.id.desc()).limit(1),
)
