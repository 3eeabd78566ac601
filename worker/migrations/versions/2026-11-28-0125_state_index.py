"""The index by which an organisation's jobs in one state are listed, however many others it has.

Code of the release before works on this schema: nothing that it reads has changed.

The index is built beside the jobs, outside a transaction; what was interrupted is dropped first,
so that this can be run again.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        _drop()
        op.create_index(
            "ix_import_jobs_organization_id_state_id",
            "import_jobs",
            ["organization_id", "state", "id"],
            unique=False,
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        _drop()


def _drop() -> None:
    op.drop_index(
        "ix_import_jobs_organization_id_state_id",
        table_name="import_jobs",
        if_exists=True,
        postgresql_concurrently=True,
    )
