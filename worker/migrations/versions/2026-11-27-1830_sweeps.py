"""When the last sweep ran, for whoever asks whether beat and the workers are well.

Code of the release before works on this schema: it does not know the table.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("single", sa.Boolean(), nullable=False),
        sa.Column("swept_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("single", name=op.f("ck_sweeps_single")),
        sa.PrimaryKeyConstraint("single", name=op.f("pk_sweeps")),
    )
    # From now on there should be one every second.
    op.execute("INSERT INTO sweeps VALUES (true, now())")


def downgrade() -> None:
    op.drop_table("sweeps")
