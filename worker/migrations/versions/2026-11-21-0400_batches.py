"""Batches: many imports with one request.

Code of the release before works on this schema: the new column is nullable, and a job that a batch
holds back is one that its sweep does not ask for.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

HELD = "state = 'queued' AND due_at IS NULL"


def upgrade() -> None:
    _create_batches()
    op.add_column("import_jobs", sa.Column("batch_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_import_jobs_batch_id"), "import_jobs", "batches", ["batch_id"], ["id"]
    )
    op.create_index(
        "ix_import_jobs_batch_id_id",
        "import_jobs",
        ["batch_id", "id"],
        unique=False,
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )
    op.create_index(
        "ix_import_jobs_held",
        "import_jobs",
        ["provider", "account_ref", "id"],
        unique=False,
        postgresql_where=sa.text(HELD),
    )
    op.create_table(
        "batch_rows",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("e164", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(job_id IS NULL) = (error_code IS NOT NULL)", name=op.f("ck_batch_rows_outcome")
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_batch_rows_batch_id")),
        sa.ForeignKeyConstraint(["job_id"], ["import_jobs.id"], name=op.f("fk_batch_rows_job_id")),
        sa.PrimaryKeyConstraint("batch_id", "line", name=op.f("pk_batch_rows")),
    )


def downgrade() -> None:
    op.drop_table("batch_rows")
    # Nobody below knows that these wait for their turn: the sweep of that release sends them all.
    op.execute(f"UPDATE import_jobs SET due_at = now() WHERE {HELD}")  # noqa: S608 -- a constant
    op.drop_index("ix_import_jobs_held", table_name="import_jobs")
    op.drop_index("ix_import_jobs_batch_id_id", table_name="import_jobs")
    op.drop_constraint(op.f("fk_import_jobs_batch_id"), "import_jobs", type_="foreignkey")
    op.drop_column("import_jobs", "batch_id")
    op.drop_table("batches")


def _create_batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("api_key_id", sa.Uuid(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_batches_organization_id")
        ),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name=op.f("fk_batches_api_key_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index(
        "ix_batches_organization_id_id", "batches", ["organization_id", "id"], unique=False
    )
    op.create_index(
        "uq_batches_idempotency_key",
        "batches",
        ["organization_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
