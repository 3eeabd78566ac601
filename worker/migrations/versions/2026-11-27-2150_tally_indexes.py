"""The indexes by which an organisation's jobs are counted: the stuck ones, and the last day's.

Code of the release before works on this schema: nothing that it reads has changed.

Each index is built beside the jobs, outside a transaction; whatever was interrupted is dropped
first, so that this can be run again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        _drop("ix_import_jobs_ended")
        op.create_index(
            "ix_import_jobs_ended",
            "import_jobs",
            ["organization_id", "finished_at"],
            unique=False,
            postgresql_include=["state"],
            postgresql_where=sa.text("finished_at IS NOT NULL"),
            postgresql_concurrently=True,
        )
        _drop("ix_import_jobs_stuck")
        op.create_index(
            "ix_import_jobs_stuck",
            "import_jobs",
            ["organization_id"],
            unique=False,
            postgresql_where=sa.text("state = 'stuck'"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        _drop("ix_import_jobs_stuck")
        _drop("ix_import_jobs_ended")


def _drop(name: str) -> None:
    op.drop_index(name, table_name="import_jobs", if_exists=True, postgresql_concurrently=True)
