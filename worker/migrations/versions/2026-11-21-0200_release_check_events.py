"""Kinds of jobs, release, diagnosis, events, notifications, credential rotation.

Code of the release before works on this schema: what it does not know is nullable or has a default,
and the constraints that are replaced only become wider.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OLD_STATES = "'queued', 'running', 'active', 'undoing', 'failed', 'cancelled', 'stuck'"
OPEN = "state IN ('queued', 'running', 'undoing', 'stuck')"


def upgrade() -> None:
    op.add_column("organizations", sa.Column("sealed", sa.LargeBinary(), nullable=True))
    op.add_column("credentials", sa.Column("replaced_sealed", sa.LargeBinary(), nullable=True))
    op.add_column(
        "credentials", sa.Column("replaced_until", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column(
        "import_jobs",
        sa.Column("kind", sa.Text(), server_default=sa.text("'import'"), nullable=False),
    )
    op.add_column("import_jobs", sa.Column("import_id", sa.Uuid(), nullable=True))
    op.add_column(
        "import_jobs",
        sa.Column("notify", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_foreign_key(
        op.f("fk_import_jobs_import_id"), "import_jobs", "import_jobs", ["import_id"], ["id"]
    )
    op.create_check_constraint(
        op.f("ck_import_jobs_kind"),
        "import_jobs",
        "kind IN ('import', 'release', 'repair', 'rebind')",
    )
    _replace_check("import_jobs", "state", f"state IN ({OLD_STATES}, 'released')")
    op.create_index(
        "uq_import_jobs_phone_number_id_open",
        "import_jobs",
        ["phone_number_id"],
        unique=True,
        postgresql_where=sa.text(OPEN),
    )
    op.add_column("phone_numbers", sa.Column("job_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_phone_numbers_job_id"), "phone_numbers", "import_jobs", ["job_id"], ["id"]
    )
    for name in ("check_due_at", "checked_at"):
        op.add_column("phone_numbers", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column("phone_numbers", sa.Column("diagnosis", postgresql.JSONB(), nullable=True))
    _replace_check(
        "phone_numbers", "status", "status IN ('pending', 'active', 'releasing', 'released')"
    )
    _unique_numbers(" AND status <> 'released'")
    op.create_index(
        "ix_phone_numbers_check_due_at",
        "phone_numbers",
        ["check_due_at"],
        unique=False,
        postgresql_where=sa.text("status = 'active'"),
    )
    _create_events()
    _create_notifications()


def downgrade() -> None:
    op.drop_table("notifications")
    op.drop_table("number_events")
    # The schema below knows no released numbers and no jobs but imports.
    op.execute("UPDATE phone_numbers SET job_id = NULL")
    op.execute("DELETE FROM phone_numbers WHERE status = 'released'")
    op.execute("UPDATE phone_numbers SET status = 'active' WHERE status = 'releasing'")
    op.execute(
        "DELETE FROM job_steps USING import_jobs "
        "WHERE import_jobs.id = job_steps.job_id AND import_jobs.kind <> 'import'"
    )
    op.execute("DELETE FROM import_jobs WHERE kind <> 'import'")
    op.drop_index("ix_phone_numbers_check_due_at", table_name="phone_numbers")
    _unique_numbers("")
    _replace_check("phone_numbers", "status", "status IN ('pending', 'active')")
    op.drop_constraint(op.f("fk_phone_numbers_job_id"), "phone_numbers", type_="foreignkey")
    for name in ("job_id", "check_due_at", "checked_at", "diagnosis"):
        op.drop_column("phone_numbers", name)
    op.drop_index("uq_import_jobs_phone_number_id_open", table_name="import_jobs")
    _replace_check("import_jobs", "state", f"state IN ({OLD_STATES})")
    op.drop_constraint(op.f("ck_import_jobs_kind"), "import_jobs", type_="check")
    op.drop_constraint(op.f("fk_import_jobs_import_id"), "import_jobs", type_="foreignkey")
    for name in ("kind", "import_id", "notify"):
        op.drop_column("import_jobs", name)
    for name in ("replaced_sealed", "replaced_until"):
        op.drop_column("credentials", name)
    op.drop_column("organizations", "sealed")


def _replace_check(table: str, name: str, condition: str) -> None:
    constraint = op.f(f"ck_{table}_{name}")
    op.drop_constraint(constraint, table, type_="check")
    op.create_check_constraint(constraint, table, condition)


def _unique_numbers(unless: str) -> None:
    for name, columns, ownership in (
        ("uq_phone_numbers_e164_proven", ["e164"], "proven"),
        (
            "uq_phone_numbers_organization_id_e164_asserted",
            ["organization_id", "e164"],
            "asserted",
        ),
    ):
        op.drop_index(name, table_name="phone_numbers")
        op.create_index(
            name,
            "phone_numbers",
            columns,
            unique=True,
            postgresql_where=sa.text(f"ownership = '{ownership}'{unless}"),
        )


def _create_events() -> None:
    op.create_table(
        "number_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("phone_number_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "kind IN ('call', 'sms', 'recording')", name=op.f("ck_number_events_kind")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_number_events_organization_id"),
        ),
        sa.ForeignKeyConstraint(
            ["phone_number_id"],
            ["phone_numbers.id"],
            name=op.f("fk_number_events_phone_number_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_number_events")),
        sa.UniqueConstraint(
            "phone_number_id", "key", name=op.f("uq_number_events_phone_number_id_key")
        ),
    )
    op.create_index(
        "ix_number_events_phone_number_id_id",
        "number_events",
        ["phone_number_id", "id"],
        unique=False,
    )


def _create_notifications() -> None:
    op.create_table(
        "notifications",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("secrets_of", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=True),
        sa.Column("payload", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=True,
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'failed')", name=op.f("ck_notifications_state")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_notifications_organization_id"),
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["import_jobs.id"], name=op.f("fk_notifications_job_id")
        ),
        sa.ForeignKeyConstraint(
            ["secrets_of"], ["import_jobs.id"], name=op.f("fk_notifications_secrets_of")
        ),
        sa.ForeignKeyConstraint(
            ["event_id"],
            ["number_events.id"],
            name=op.f("fk_notifications_event_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
    )
    op.create_index(
        "ix_notifications_due_at",
        "notifications",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index("ix_notifications_job_id", "notifications", ["job_id"], unique=False)
