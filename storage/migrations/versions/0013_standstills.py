"""When an announcement stood still; and the copies in the outbox are found by their announcement."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0010"
branch_labels = None
depends_on = None

IN_OUTBOX = sa.text("state IN ('queued', 'leaving')")


def index(*columns: str) -> None:
    op.drop_index("ix_delivery_in_outbox", "delivery")
    op.create_index(
        "ix_delivery_in_outbox", "delivery", list(columns), sqlite_where=IN_OUTBOX, postgresql_where=IN_OUTBOX
    )


def upgrade() -> None:
    for column in ("stood_from", "stood_until"):
        op.add_column("announcement", sa.Column(column, sa.DateTime(timezone=True), nullable=True))
    index("announcement_id", "adapter")


def downgrade() -> None:
    index("adapter", "announcement_id")
    for column in ("stood_from", "stood_until"):
        op.drop_column("announcement", column)
