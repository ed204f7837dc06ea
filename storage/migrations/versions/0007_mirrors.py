"""Mirrors: rooms that want polls as the messenger's own, messages that are one, and all that people answer."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("chat", sa.Column("mirrors", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("poll", sa.Column("mirrored", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("outbox", sa.Column("poll", sa.Integer(), nullable=True))
    op.create_table(
        "poll_answer",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("poll_id", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("chat_id", sa.Integer(), nullable=True),
        sa.Column("external", sa.String(), nullable=True),
        sa.Column("content", sa.String(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["chat_id"], ["chat.id"], name=op.f("fk_poll_answer_chat_id_chat")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_poll_answer_person_id_person")),
        sa.ForeignKeyConstraint(["poll_id"], ["poll.id"], name=op.f("fk_poll_answer_poll_id_poll")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_poll_answer")),
        sa.UniqueConstraint("chat_id", "external", name=op.f("uq_poll_answer_chat_id")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("poll_answer", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_poll_answer_person_id"), ["person_id"], unique=False)
        batch_op.create_index("ix_poll_answer_poll_id_person_id", ["poll_id", "person_id"], unique=False)


def downgrade() -> None:
    op.drop_table("poll_answer")
    op.drop_column("outbox", "poll")
    op.drop_column("poll", "mirrored")
    op.drop_column("chat", "mirrors")
