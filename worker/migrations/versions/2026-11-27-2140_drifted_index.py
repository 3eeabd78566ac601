"""The index by which metrics count drifted numbers, instead of reading every number.

Code of the release before works on this schema: nothing that it reads has changed.

It is built beside the jobs, outside a transaction; whatever was interrupted is dropped first, so
that this can be run again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NAME = "ix_phone_numbers_drifted"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        _drop()
        op.create_index(
            NAME,
            "phone_numbers",
            ["provider"],
            unique=False,
            postgresql_where=sa.text("status = 'active' AND diagnosis ->> 'verdict' = 'drifted'"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        _drop()


def _drop() -> None:
    op.drop_index(NAME, table_name="phone_numbers", if_exists=True, postgresql_concurrently=True)
