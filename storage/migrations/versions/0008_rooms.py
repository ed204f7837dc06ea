"""Rooms have names and hear events as they hear topics; an event may come of a poll."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("event", table_kwargs={"sqlite_autoincrement": True}) as batch_op:
        batch_op.add_column(sa.Column("poll_id", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("poll_option", sa.Integer(), nullable=True))
        batch_op.create_foreign_key(batch_op.f("fk_event_poll_id_poll"), "poll", ["poll_id"], ["id"])


def downgrade() -> None:
    with op.batch_alter_table("event", table_kwargs={"sqlite_autoincrement": True}) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_event_poll_id_poll"), type_="foreignkey")
        batch_op.drop_column("poll_option")
        batch_op.drop_column("poll_id")
