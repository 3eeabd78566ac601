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
from sqlalchemy import Engine, create_engine, event, exc, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from worker.settings import Settings

Result = TypeVar("Result")

#: The database is away, restarting, or out of connections: says nothing about the job.
DATABASE_ERRORS: Final = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)

#: A connection that was used within this time is taken to be alive.
_PING_AFTER_SECONDS: Final = 1.0


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
    engine = create_engine(
        url,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        # The one used last is used first: it needs no ping, and what is idle stays so.
        pool_use_lifo=True,
        # Parameters of a failed statement may be sealed values or phone numbers: not for logs.
        hide_parameters=True,
        # PGAPPNAME, if it is set, names the process in pg_stat_activity.
        connect_args={"connect_timeout": 3, "fallback_application_name": "trunkline"},
    )
    _ping_idle_connections(engine)
    return engine


def _ping_idle_connections(engine: Engine) -> None:
    """Makes sure that a connection which has been idle for a while is alive before it is used.

    After a database restart every pooled connection is dead; without this each one would fail a job
    before it is replaced. SQLAlchemy's own pre-ping asks before every use, which is a round trip
    more for each statement of a busy worker.
    """

    @event.listens_for(engine, "checkin")
    def _note(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ping(
        connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection
    ) -> None:
        now = time.monotonic()
        if now - record.info.get("idle_since", now) < _PING_AFTER_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            # All others are of the same age: the pool replaces them, too.
            raise exc.InvalidatePoolError("the database was restarted") from error


def one_statement(engine: Engine) -> Engine:
    """Returns the same pool for single statements, each of which is a transaction by itself.

    It saves the round trips of BEGIN and COMMIT.
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT")


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
