"""Migrations go up and down, the models say what they made, and they hold up nobody for long."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import alembic.command
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, inspect, text

from deploy.local.postgres import EmbeddedPostgres
from tests.conftest import make_settings
from worker.db.engine import (
    MIGRATION_LOCK,
    MigrationBlockedError,
    alembic_config,
    downgrade,
    make_engine,
    migrate,
    revisions,
)
from worker.db.models import Base
from worker.settings import Settings

#: The newest migration of the first release: nobody worked on the tables that these changed.
FIRST_RELEASE: Final = "0004"
#: What a migration must not say of a table that is in use → why.
HARMFUL: Final = {
    r"CREATE (UNIQUE )?INDEX (?!CONCURRENTLY).* ON (?P<table>\w+)": "blocks writes while it builds",
    r"ALTER TABLE (?P<table>\w+) ADD CONSTRAINT .*(CHECK|FOREIGN KEY)(?!.*NOT VALID)": (
        "reads the whole table under a lock"
    ),
    r"ALTER TABLE (?P<table>\w+) ADD CONSTRAINT .*(UNIQUE|PRIMARY KEY)(?!.*USING INDEX)": (
        "builds an index under a lock"
    ),
    r"ALTER TABLE (?P<table>\w+) ALTER COLUMN \w+ (SET DATA )?TYPE": "rewrites the table",
    r"ALTER TABLE (?P<table>\w+) ALTER COLUMN \w+ SET NOT NULL": "reads the whole table",
    r"ALTER TABLE (?P<table>\w+) ADD COLUMN (?!.*DEFAULT).*NOT NULL": "older code cannot insert",
    r"ALTER TABLE (?P<table>\w+) RENAME": "older code does not know the new name",
}


@pytest.fixture
def empty(postgres: EmbeddedPostgres) -> Iterator[Settings]:
    postgres.create_database("migrations")
    yield make_settings(postgres.url("migrations"))
    postgres.drop_database("migrations")


def harms(statements: Iterable[str]) -> list[str]:
    """Returns what statements would do to the tables that are there already."""
    made, found = set(), []
    for statement in (" ".join(one.split()) for one in statements):
        if new := re.match(r"CREATE TABLE (\w+)", statement):
            made.add(new[1])
        found += [
            f"{why}: {statement}"
            for pattern, why in HARMFUL.items()
            if (hit := re.search(pattern, statement)) and hit["table"] not in made
        ]
    return found


def test_up_down_and_up_again_leaves_the_same_schema(empty: Settings) -> None:
    engine = make_engine(empty)
    migrate(empty)
    migrate(empty)
    current, wanted = revisions(empty)
    assert current == wanted
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert differences == []
    downgrade(empty, "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    migrate(empty)
    assert set(inspect(engine).get_table_names()) == {
        "alembic_version",
        *Base.metadata.tables,
    }
    engine.dispose()


def test_a_schema_of_a_newer_release_stays_as_it_is(empty: Settings) -> None:
    migrate(empty)
    engine = make_engine(empty)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'next'"))
    engine.dispose()
    migrate(empty)
    assert revisions(empty)[0] == "next"


def test_no_migration_after_the_first_release_holds_up_the_jobs(empty: Settings) -> None:
    migrate(empty, FIRST_RELEASE)
    config, statements = alembic_config(empty), []

    @event.listens_for(config.attributes["engine"], "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    alembic.command.upgrade(config, "head")
    assert any("lock_timeout" in statement for statement in statements)
    assert harms(statements) == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX ix ON import_jobs (e164)",
        "CREATE UNIQUE INDEX uq ON import_jobs (e164) WHERE e164 IS NOT NULL",
        "ALTER TABLE job_steps ADD CONSTRAINT ck CHECK (step <> '')",
        "ALTER TABLE job_steps ADD CONSTRAINT fk FOREIGN KEY(job_id) REFERENCES import_jobs (id)",
        "ALTER TABLE job_steps ADD CONSTRAINT uq UNIQUE (job_id)",
        "ALTER TABLE job_steps ALTER COLUMN attempts TYPE BIGINT",
        "ALTER TABLE job_steps ALTER COLUMN sealed SET NOT NULL",
        "ALTER TABLE job_steps ADD COLUMN ticket TEXT NOT NULL",
        "ALTER TABLE job_steps RENAME COLUMN step TO name",
    ],
)
def test_a_statement_that_would_is_recognised(statement: str) -> None:
    assert len(harms([statement])) == 1
    table = "import_jobs" if "import_jobs (e" in statement else "job_steps"
    assert harms([f"CREATE TABLE {table} (id UUID)", statement]) == []


def test_what_holds_up_nobody_is_allowed() -> None:
    assert not harms(
        [
            "CREATE INDEX CONCURRENTLY ix ON import_jobs (e164)",
            "ALTER TABLE job_steps ADD CONSTRAINT ck CHECK (step <> '') NOT VALID",
            "ALTER TABLE job_steps VALIDATE CONSTRAINT ck",
            "ALTER TABLE job_steps ADD COLUMN ticket TEXT",
            "ALTER TABLE job_steps ADD COLUMN tries INTEGER DEFAULT 0 NOT NULL",
        ]
    )


@pytest.fixture
def reader(empty: Settings) -> Iterator[psycopg.Connection[Any]]:
    """Somebody who has read a table that a migration is to change, and has not ended."""
    migrate(empty, "0003")
    url = empty.database_url.get_secret_value()
    with psycopg.connect(url, application_name="report") as connection:
        connection.execute("SELECT count(*) FROM import_jobs")
        yield connection


def test_a_migration_that_gets_no_lock_says_who_holds_it_and_can_be_run_again(
    empty: Settings, reader: psycopg.Connection[Any]
) -> None:
    began = time.monotonic()
    with pytest.raises(MigrationBlockedError, match=r"Open now: pid \d+ \(report, idle in trans"):
        migrate(empty, attempts=2, pause_seconds=0.1)
    # Twice the lock timeout: nobody queues behind it for longer than that at a time.
    assert time.monotonic() - began < 15
    assert revisions(empty)[0] == "0003"
    reader.rollback()
    migrate(empty)
    assert len(set(revisions(empty))) == 1


def test_a_migration_steps_aside_and_comes_back(
    empty: Settings, reader: psycopg.Connection[Any]
) -> None:
    threading.Timer(3, reader.rollback).start()
    migrate(empty, pause_seconds=0.5)
    assert len(set(revisions(empty))) == 1


def test_a_migrator_waits_for_another_without_a_snapshot(empty: Settings) -> None:
    url = empty.database_url.get_secret_value()
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        waiting = threading.Thread(target=migrate, args=[empty])
        waiting.start()
        time.sleep(1)
        assert revisions(empty)[0] is None
        # Else an index that the other one builds concurrently would wait for this one.
        held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
        held += "pid <> pg_backend_pid() AND backend_xmin IS NOT NULL"
        assert other.execute(held).fetchone() == (0,)
        other.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
        waiting.join()
    assert len(set(revisions(empty))) == 1
