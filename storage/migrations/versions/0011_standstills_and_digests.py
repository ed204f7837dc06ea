"""Announcements: when one stood still or was looked at, what went along, copies in digests, how copies are found."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

IN_OUTBOX, HELD, GATHERED = "state IN ('queued', 'leaving')", "state = 'held'", "gathered"


def index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "delivery", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def upgrade() -> None:
    for column in ("stood_from", "stood_until", "looked_at"):
        op.add_column("announcement", sa.Column(column, sa.DateTime(timezone=True), nullable=True))
    op.add_column("announcement", sa.Column("attached_as", sa.String(), nullable=True))
    op.add_column("delivery", sa.Column("gathered", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_index("ix_delivery_in_outbox", "delivery")
    index("ix_delivery_in_outbox", ["announcement_id", "adapter"], IN_OUTBOX)
    index("ix_delivery_held_for", ["chat_id"], HELD)
    index("ix_delivery_gathered", ["outbox_id"], GATHERED)


def downgrade() -> None:
    op.drop_index("ix_delivery_gathered", "delivery")
    op.drop_index("ix_delivery_held_for", "delivery")
    op.drop_index("ix_delivery_in_outbox", "delivery")
    index("ix_delivery_in_outbox", ["adapter", "announcement_id"], IN_OUTBOX)
    op.drop_column("delivery", "gathered")
    for column in ("attached_as", "stood_from", "stood_until", "looked_at"):
        op.drop_column("announcement", column)
