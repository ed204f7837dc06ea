"""Rooms have names and hear events as they hear topics; an event may come of a poll; polls are refreshed when due."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("chat", sa.Column("name", sa.String(), nullable=True))
    op.execute("INSERT INTO hearing (chat_id, topic) SELECT DISTINCT chat_id, ',' FROM event_room")
    op.drop_table("event_room")
    op.add_column("poll", sa.Column("refresh_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE poll SET refresh_at = opened_at WHERE stale")
    op.drop_index("ix_poll_stale", "poll")
    op.drop_column("poll", "stale")
    waiting = sa.text("refresh_at IS NOT NULL")
    op.create_index("ix_poll_refresh_at", "poll", ["refresh_at"], sqlite_where=waiting, postgresql_where=waiting)
    with op.batch_alter_table("event", table_kwargs={"sqlite_autoincrement": True}) as batch_op:
        batch_op.add_column(sa.Column("poll_id", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("poll_option", sa.Integer(), nullable=True))
        batch_op.create_foreign_key(batch_op.f("fk_event_poll_id_poll"), "poll", ["poll_id"], ["id"])


def downgrade() -> None:
    op.create_table(
        "event_room",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("chat_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["chat_id"], ["chat.id"], name=op.f("fk_event_room_chat_id_chat")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_room")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_event_room_chat_id"), "event_room", ["chat_id"], unique=False)
    op.execute("INSERT INTO event_room (chat_id) SELECT chat_id FROM hearing WHERE topic = ','")
    op.execute("DELETE FROM hearing WHERE topic = ','")
    op.drop_column("chat", "name")
    op.add_column("poll", sa.Column("stale", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE poll SET stale = true WHERE refresh_at IS NOT NULL")
    op.drop_index("ix_poll_refresh_at", "poll")
    op.drop_column("poll", "refresh_at")
    op.create_index("ix_poll_stale", "poll", ["id"], sqlite_where=sa.text("stale"), postgresql_where=sa.text("stale"))
    with op.batch_alter_table("event", table_kwargs={"sqlite_autoincrement": True}) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_event_poll_id_poll"), type_="foreignkey")
        batch_op.drop_column("poll_option")
        batch_op.drop_column("poll_id")
