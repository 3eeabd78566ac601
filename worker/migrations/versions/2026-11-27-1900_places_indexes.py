"""The indexes by which places are counted and held jobs found, instead of the one for batches.

Code of the release before works on this schema: it feeds held imports, single ones too, by their
accounts, and only finds them more slowly.

Each index is built beside the jobs, outside a transaction; whatever was interrupted is dropped
first, so that this can be run again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

HELD = "state = 'queued' AND due_at IS NULL"
HELD_ALONE = "due_at IS NULL AND (state = 'undoing' OR (state = 'queued' AND batch_id IS NULL))"
HELD_IN_BATCH = "due_at IS NULL AND state = 'queued' AND batch_id IS NOT NULL"


def _build(name: str, columns: list[str | sa.TextClause], where: str) -> None:
    _drop(name)
    op.create_index(
        name,
        "import_jobs",
        columns,
        unique=False,
        postgresql_where=sa.text(where),
        postgresql_concurrently=True,
    )


def _drop(name: str) -> None:
    op.drop_index(name, table_name="import_jobs", if_exists=True, postgresql_concurrently=True)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        _build("ix_import_jobs_under_way", ["organization_id", "due_at"], "due_at IS NOT NULL")
        _build(
            "ix_import_jobs_held_alone",
            ["organization_id", sa.text("(state = 'queued')"), "id"],
            HELD_ALONE,
        )
        _build(
            "ix_import_jobs_held_in_batch",
            ["organization_id", "provider", "account_ref", "id"],
            HELD_IN_BATCH,
        )
        _drop("ix_import_jobs_held")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        _build("ix_import_jobs_held", ["provider", "account_ref", "id"], HELD)
        _drop("ix_import_jobs_held_in_batch")
        _drop("ix_import_jobs_held_alone")
        _drop("ix_import_jobs_under_way")
