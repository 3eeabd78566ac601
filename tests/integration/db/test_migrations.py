"""Migrations go up and down, and the models say what they made."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from deploy.local.postgres import EmbeddedPostgres
from tests.conftest import make_settings
from worker.db.engine import downgrade, make_engine, migrate, revisions
from worker.db.models import Base


def test_up_down_and_up_again_leaves_the_same_schema(postgres: EmbeddedPostgres) -> None:
    postgres.create_database("migrations")
    settings = make_settings(postgres.url("migrations"))
    engine = make_engine(settings)
    migrate(settings)
    migrate(settings)
    current, wanted = revisions(settings)
    assert current == wanted
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert differences == []
    downgrade(settings, "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    migrate(settings)
    assert set(inspect(engine).get_table_names()) == {
        "alembic_version",
        *Base.metadata.tables,
    }
    engine.dispose()
    postgres.drop_database("migrations")
