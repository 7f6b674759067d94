"""Accounts elsewhere: slots, bills, uploads, looks at remote jobs; and the workers that live."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import UTCDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

DUE = sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("run", sa.Column("cap_usd", sa.Float(), nullable=True))
    op.add_column("job", sa.Column("account", sa.String(), nullable=True))
    op.add_column("job", sa.Column("pool", sa.String(), nullable=True))
    op.add_column("job", sa.Column("has_slot", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_index("job_by_urgency", table_name="job")
    priority, slot = sa.text("priority DESC"), sa.text("has_slot DESC")
    op.create_index("job_by_urgency", "job", ["queue", priority, slot, "due_at", "id"], unique=False, sqlite_where=DUE)
    op.create_index(op.f("ix_job_account"), "job", ["account"], unique=False)
    op.create_index("job_by_pool", "job", ["pool", "has_slot", "state", "priority", "submitted_at"], unique=False)
    op.create_table(
        "pool",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=True),
        sa.Column("source", sa.String(), nullable=True),
        sa.Column("believed", sa.Integer(), nullable=True),
        sa.Column("probe_at", UTCDateTime(), nullable=True),
        sa.Column("told", sa.Integer(), nullable=True),
        sa.Column("told_a_day", sa.Integer(), nullable=True),
        sa.Column("told_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "worker",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("process", sa.String(), nullable=True),
        sa.Column("card", sa.String(), nullable=True),
        sa.Column("card_name", sa.String(), nullable=True),
        sa.Column("vram_mib", sa.Integer(), nullable=True),
        sa.Column("vram_used_mib", sa.Integer(), nullable=True),
        sa.Column("gpu_percent", sa.Integer(), nullable=True),
        sa.Column("seen_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "account",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", UTCDateTime(), nullable=True),
        sa.Column("paused_until", UTCDateTime(), nullable=True),
        sa.Column("paused_why", sa.String(), nullable=True),
        sa.Column("paused_for", sa.String(), nullable=True),
        sa.Column("looked_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "remote_look",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("remote_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=True),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("base_model", sa.String(), nullable=True),
        sa.Column("created_at", UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("account", "remote_id"),
    )
    op.create_table(
        "upload",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("file", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("account", "digest"),
    )
    op.create_table(
        "bill",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("quoted_at", UTCDateTime(), nullable=True),
        sa.Column("quoted_low_usd", sa.Float(), nullable=True),
        sa.Column("quoted_high_usd", sa.Float(), nullable=True),
        sa.Column("quoted_tokens", sa.BigInteger(), nullable=True),
        sa.Column("approved_at", UTCDateTime(), nullable=True),
        sa.Column("approved_by", sa.String(), nullable=True),
        sa.Column("approved_usd", sa.Float(), nullable=True),
        sa.Column("committed_at", UTCDateTime(), nullable=True),
        sa.Column("started_at", UTCDateTime(), nullable=True),
        sa.Column("billed_at", UTCDateTime(), nullable=True),
        sa.Column("billed_tokens", sa.BigInteger(), nullable=True),
        sa.Column("billed_usd", sa.Float(), nullable=True),
        sa.Column("is_estimate", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index(op.f("ix_bill_job_id"), "bill", ["job_id"], unique=False)
    op.create_index(op.f("ix_bill_account"), "bill", ["account"], unique=False)
    op.create_index(op.f("ix_bill_run_id"), "bill", ["run_id"], unique=False)


def downgrade() -> None:
    for table in ("bill", "upload", "remote_look", "account", "worker", "pool"):
        op.drop_table(table)
    op.drop_index("job_by_pool", table_name="job")
    op.drop_index("job_by_urgency", table_name="job")
    priority = sa.text("priority DESC")
    op.create_index("job_by_urgency", "job", ["queue", priority, "due_at", "id"], unique=False, sqlite_where=DUE)
    op.drop_index(op.f("ix_job_account"), table_name="job")
    op.drop_column("run", "cap_usd")
    with op.batch_alter_table("job") as batch:
        for column in ("has_slot", "pool", "account"):
            batch.drop_column(column)
