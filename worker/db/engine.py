"""The connection pool of a process, and the migrations.

Alembic is imported where it is used: only who migrates, or asks for the schema's revision, needs
it, and it is a tenth of what a command takes to start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import URL, Engine, create_engine, event, exc, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection

from worker.settings import Settings

if TYPE_CHECKING:
    import alembic.config

Result = TypeVar("Result")

#: The database is away, restarting, or out of connections: says nothing about the job.
DATABASE_ERRORS: Final = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)

#: A connection that was used within this time is taken to be alive.
_PING_AFTER_SECONDS: Final = 1.0
#: Held while a schema changes: any number that nothing else in the database locks on.
MIGRATION_LOCK: Final = 7_426_311
#: How often a migration asks for a lock that somebody holds, and how long it rests in between.
_MIGRATION_ATTEMPTS: Final = 10
_MIGRATION_PAUSE_SECONDS: Final = 3.0
_CONNECT: Final = {
    "connect_timeout": 3,
    # PGAPPNAME, if it is set, names the process in pg_stat_activity.
    "fallback_application_name": "trunkline",
    # Planning one of the statements that move a job takes long: it is prepared when a connection
    # runs it for the second time, not for the sixth.
    "prepare_threshold": 1,
}
#: SQLSTATEs: lock_not_available, deadlock_detected.
_BLOCKED: Final = ("55P03", "40P01")


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
    engine = create_engine(
        _url(settings),
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        # The one used last is used first: it needs no ping, and what is idle stays so.
        pool_use_lifo=True,
        # Parameters of a failed statement may be sealed values or phone numbers: not for logs.
        hide_parameters=True,
        connect_args=_CONNECT,
    )
    _ping_idle_connections(engine)
    return engine


def make_probe(settings: Settings) -> Engine:
    """Returns a way to ask now and then: it keeps no connection, and waits for none of the pool."""
    return create_engine(
        _url(settings), poolclass=NullPool, hide_parameters=True, connect_args=_CONNECT
    )


def _url(settings: Settings) -> URL:
    return make_url(settings.database_url.get_secret_value()).set(drivername="postgresql+psycopg")


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

    It saves the round trips of BEGIN and COMMIT. Reads go this way: what they begin ends in a
    ROLLBACK, on which psycopg forgets every statement that the connection has prepared, and each
    is parsed and planned anew: https://www.psycopg.org/psycopg3/docs/advanced/prepare.html
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def alembic_config(settings: Settings) -> alembic.config.Config:
    """Returns Alembic's configuration for this database."""
    import alembic.config  # noqa: PLC0415

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
    import alembic.command  # noqa: PLC0415

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
    import alembic.runtime.migration  # noqa: PLC0415
    import alembic.script  # noqa: PLC0415

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
    import alembic.script  # noqa: PLC0415

    current, _ = revisions(settings)
    script = alembic.script.ScriptDirectory.from_config(alembic_config(settings))
    return current not in {None, *(known.revision for known in script.walk_revisions())}


def downgrade(settings: Settings, revision: str) -> None:
    """Brings the schema down to a revision."""
    import alembic.command  # noqa: PLC0415

    alembic.command.downgrade(alembic_config(settings), revision)
