"""Alembic's entry point: one transaction, bounded waits, one migrator at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Engine, text

from worker.db.engine import make_engine
from worker.db.models import Base
from worker.settings import load

#: Any number that nothing else in the database locks on.
MIGRATION_LOCK = 7_426_311


def run() -> None:
    """Runs the migrations on the engine that the caller brought, or on that of the environment."""
    engine: Engine = context.config.attributes.get("engine") or make_engine(load())
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            compare_type=True,
            compare_server_default=False,
        )
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            # A migration that waits for a lock blocks everybody behind it: give up early instead.
            connection.execute(text("SET LOCAL lock_timeout = '4s'"))
            connection.execute(text("SET LOCAL statement_timeout = '60s'"))
            context.run_migrations()
    engine.dispose()


run()
