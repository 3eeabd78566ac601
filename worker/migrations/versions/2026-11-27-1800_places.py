"""Places: how many jobs of an organisation are under way, and which of its held ones are next.

Code of the release before works on this schema: it feeds held imports, single ones too, by their
accounts, and only finds them more slowly.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

HELD = "state = 'queued' AND due_at IS NULL"
HELD_ALONE = "due_at IS NULL AND (state = 'undoing' OR (state = 'queued' AND batch_id IS NULL))"
HELD_IN_BATCH = "due_at IS NULL AND state = 'queued' AND batch_id IS NOT NULL"


def upgrade() -> None:
    op.add_column(
        "import_jobs",
        sa.Column("backlog", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_index(
        "ix_import_jobs_under_way",
        "import_jobs",
        ["organization_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_import_jobs_held_alone",
        "import_jobs",
        ["organization_id", sa.text("(state = 'queued')"), "id"],
        unique=False,
        postgresql_where=sa.text(HELD_ALONE),
    )
    op.create_index(
        "ix_import_jobs_held_in_batch",
        "import_jobs",
        ["organization_id", "provider", "account_ref", "id"],
        unique=False,
        postgresql_where=sa.text(HELD_IN_BATCH),
    )
    op.drop_index("ix_import_jobs_held", table_name="import_jobs")


def downgrade() -> None:
    # Nobody below feeds jobs that are held undoing: the sweep of that release sends them all.
    op.execute("UPDATE import_jobs SET due_at = now() WHERE state = 'undoing' AND due_at IS NULL")
    op.create_index(
        "ix_import_jobs_held",
        "import_jobs",
        ["provider", "account_ref", "id"],
        unique=False,
        postgresql_where=sa.text(HELD),
    )
    op.drop_index("ix_import_jobs_held_in_batch", table_name="import_jobs")
    op.drop_index("ix_import_jobs_held_alone", table_name="import_jobs")
    op.drop_index("ix_import_jobs_under_way", table_name="import_jobs")
    op.drop_column("import_jobs", "backlog")
