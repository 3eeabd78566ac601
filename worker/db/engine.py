"""The connection pool of a process, and the migrations."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import alembic.command
import alembic.config
import alembic.runtime.migration
import alembic.script
from sqlalchemy import Engine, create_engine, exc, make_url, text

from worker.settings import Settings

#: The database is away, restarting, or out of connections: says nothing about the job.
DATABASE_ERRORS: Final = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)

#: Held while a schema changes: any number that nothing else in the database locks on.
MIGRATION_LOCK: Final = 7_426_311
#: How often a migration asks for a lock that somebody holds, and how long it rests in between.
_MIGRATION_ATTEMPTS: Final = 10
_MIGRATION_PAUSE_SECONDS: Final = 3.0
#: SQLSTATEs: lock_not_available, deadlock_detected.
_BLOCKED: Final = ("55P03", "40P01")


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


class MigrationBlockedError(RuntimeError):
    """A migration did not get what it needed; the message says what stood in its way."""


def migrate(
    settings: Settings,
    revision: str = "head",
    *,
    attempts: int = _MIGRATION_ATTEMPTS,
    pause_seconds: float = _MIGRATION_PAUSE_SECONDS,
) -> None:
    """Brings the schema up to a revision, while jobs run.

    A migration that does not get a lock soon steps aside for a while, so that nobody queues behind
    it for long.

    Raises:
        MigrationBlockedError: it never got the lock; the migrations before it are done.

    Safe to repeat: yes, it goes on where it stopped; concurrent runs wait for each other. A schema
    of a newer release stays as it is: this one works on it, and its deployment must not fail.
    """
    if revision == "head" and schema_is_newer(settings):
        return
    for attempt in range(1, attempts + 1):
        config = alembic_config(settings)
        try:
            alembic.command.upgrade(config, revision)
        except exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) not in _BLOCKED:
                raise
            if attempt == attempts:
                raise MigrationBlockedError(_blocked(config.attributes["engine"])) from None
            time.sleep(pause_seconds)
        else:
            return


def _blocked(engine: Engine) -> str:
    """Says who stands in a migration's way: whoever has had a transaction open for long."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT pid, application_name, state, "
                "extract(epoch FROM clock_timestamp() - xact_start)::int AS seconds "
                "FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '1 s' "
                "ORDER BY xact_start LIMIT 5"
            )
        ).all()
    engine.dispose()
    open_now = ", ".join(
        f"pid {row.pid} ({row.application_name or 'no name'}, {row.state}, {row.seconds} s)"
        for row in rows
    )
    return (
        "A migration did not get the lock on a table in time; it has changed nothing, and those "
        "before it are done. Run this again once no transaction is open for long. Open now: "
        f"{open_now or 'none'}."
    )


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


def schema_is_newer(settings: Settings) -> bool:
    """Whether the schema's revision is none that this release knows."""
    current, _ = revisions(settings)
    script = alembic.script.ScriptDirectory.from_config(alembic_config(settings))
    return current not in {None, *(known.revision for known in script.walk_revisions())}


def downgrade(settings: Settings, revision: str) -> None:
    """Brings the schema down to a revision."""
    alembic.command.downgrade(alembic_config(settings), revision)
