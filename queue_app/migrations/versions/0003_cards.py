"""Jobs that need several cards, what they hold, and cards that are lost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("cards", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("job", sa.Column("holds", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("worker", sa.Column("card_lost", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    with op.batch_alter_table("worker") as batch:
        batch.drop_column("card_lost")
    with op.batch_alter_table("job") as batch:
        for column in ("holds", "cards"):
            batch.drop_column(column)
