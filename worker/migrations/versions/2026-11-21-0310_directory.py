"""External ids, deleted users and agents, names that tenants choose, and an audit log for good.

Code of the release before works on this schema: every new column is nullable. It does not know
which users and agents are deleted, so it would still find them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NAMED = ("users", "agents", "credentials")


def upgrade() -> None:
    op.add_column("organizations", sa.Column("display_name", sa.Text(), nullable=True))
    for table in ("users", "agents"):
        op.add_column(table, sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    for table in _NAMED:
        op.add_column(table, sa.Column("external_id", sa.Text(), nullable=True))
        op.create_index(
            f"uq_{table}_organization_id_external_id",
            table,
            ["organization_id", "external_id"],
            unique=True,
            postgresql_where=sa.text("deleted_at IS NULL"),
        )
    op.create_index(
        "ix_audit_log_organization_id_subject_id",
        "audit_log",
        ["organization_id", "subject", "id"],
        unique=False,
    )
    # Whoever can use the application's own login can still not rewrite what was done with it,
    # short of changing the schema.
    op.execute(
        "CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is only ever added to'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_log_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER audit_log_only_grows ON audit_log")
    op.execute("DROP FUNCTION refuse_audit_change()")
    op.drop_index("ix_audit_log_organization_id_subject_id", table_name="audit_log")
    for table in _NAMED:
        op.drop_index(f"uq_{table}_organization_id_external_id", table_name=table)
        op.drop_column(table, "external_id")
    for table in ("users", "agents"):
        op.drop_column(table, "deleted_at")
    op.drop_column("organizations", "display_name")
