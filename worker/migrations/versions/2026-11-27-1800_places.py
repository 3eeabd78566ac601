"""Places: which jobs go by the queue of those who wait for others of their organisation.

Code of the release before works on this schema: it knows nothing of the column, which has a
constant default.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "import_jobs",
        sa.Column("backlog", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )


def downgrade() -> None:
    # Nobody below feeds jobs that are held undoing: the sweep of that release sends them all.
    op.execute("UPDATE import_jobs SET due_at = now() WHERE state = 'undoing' AND due_at IS NULL")
    op.drop_column("import_jobs", "backlog")
