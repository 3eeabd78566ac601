"""${message}.

Code of the release before works on this schema: say why. So add, and let the code of this release
do without what is not there yet; what nobody reads any more goes in a later release. No statement
may hold up the jobs:

- a column is nullable, or has a constant default;
- an index on a table that exists is the whole of its migration, built with
  `with op.get_context().autocommit_block():` and `postgresql_concurrently=True`, after a
  `drop_index(..., if_exists=True, postgresql_concurrently=True)`: an interrupted one stays, invalid;
- a constraint is added with `postgresql_not_valid=True`, and validated by a migration of its own;
- many rows are changed in small transactions, by a command that can be run again, not in here.

tests/integration/db/test_migrations.py checks the statements.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
