"""The connection pool of a process, and the migrations."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import alembic.command
import alembic.config
import alembic.runtime.migration
import alembic.script
from sqlalchemy import Engine, create_engine, exc, make_url

from worker.settings import Settings

Result = TypeVar("Result")

#: The database is away, restarting, or out of connections: says nothing about the job.
DATABASE_ERRORS: Final = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)


def outlast(call: Callable[[], Result], *, seconds: float) -> Result:
    """Calls again while the database is away, for up to some seconds.

    For what may be done twice: a commit whose answer was lost may have been done.

    Raises:
        DATABASE_ERRORS: it is still away.
    """
    deadline, pause = time.monotonic() + seconds, 0.1
    while True:
        try:
            return call()
        except DATABASE_ERRORS:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def make_engine(settings: Settings) -> Engine:
    """Returns a pool that connects lazily; create one a process, after any fork."""
    url = make_url(settings.database_url.get_secret_value()).set(drivername="postgresql+psycopg")
    return create_engine(
        url,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        # After a database restart every pooled connection is dead; without this each one would fail
        # a job before it is replaced.
        pool_pre_ping=True,
        # Parameters of a failed statement may be sealed values or phone numbers: not for logs.
        hide_parameters=True,
        connect_args={"connect_timeout": 3, "application_name": "trunkline"},
    )


def alembic_config(settings: Settings) -> alembic.config.Config:
    """Returns Alembic's configuration for this database."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations"))
    config.attributes["engine"] = make_engine(settings)
    return config


def migrate(settings: Settings, revision: str = "head") -> None:
    """Brings the schema up to a revision.

    Safe to repeat: yes; concurrent runs wait for each other on an advisory lock.
    """
    alembic.command.upgrade(alembic_config(settings), revision)


def revisions(settings: Settings) -> tuple[str | None, str | None]:
    """Returns the schema's revision and the one that this release wants."""
    config = alembic_config(settings)
    wanted = alembic.script.ScriptDirectory.from_config(config).get_current_head()
    engine: Engine = config.attributes["engine"]
    with engine.connect() as connection:
        found = alembic.runtime.migration.MigrationContext.configure(connection)
        current = found.get_current_revision()
    engine.dispose()
    return current, wanted


def downgrade(settings: Settings, revision: str) -> None:
    """Brings the schema down to a revision."""
    alembic.command.downgrade(alembic_config(settings), revision)
