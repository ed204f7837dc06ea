"""Events that come from another calendar, and people who want to be mentioned in a group's reminder."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("event", table_kwargs={"sqlite_autoincrement": True}) as batch_op:
        batch_op.add_column(sa.Column("source", sa.Integer(), nullable=True))
    with op.batch_alter_table("attendee", schema=None) as batch_op:
        batch_op.add_column(sa.Column("mention", sa.Boolean(), server_default=sa.false(), nullable=False))
    with op.batch_alter_table("attendee", schema=None) as batch_op:
        batch_op.alter_column("mention", server_default=None)
    with op.batch_alter_table("outbox", table_kwargs={"sqlite_autoincrement": True}) as batch_op:
        batch_op.add_column(sa.Column("mentions", sa.String(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("outbox", table_kwargs={"sqlite_autoincrement": True}) as batch_op:
        batch_op.drop_column("mentions")
    with op.batch_alter_table("attendee", schema=None) as batch_op:
        batch_op.drop_column("mention")
    with op.batch_alter_table("event", table_kwargs={"sqlite_autoincrement": True}) as batch_op:
        batch_op.drop_column("source")
