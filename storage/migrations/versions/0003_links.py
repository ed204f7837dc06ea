"""Links: accounts that become one person, and the private chat each person has used last."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "link",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("chat_id", sa.Integer(), nullable=False),
        sa.Column("other_id", sa.Integer(), nullable=True),
        sa.Column("other_chat_id", sa.Integer(), nullable=True),
        sa.Column("agreed", sa.String(), nullable=True),
        sa.Column("other_agreed", sa.String(), nullable=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["chat_id"], ["chat.id"], name=op.f("fk_link_chat_id_chat")),
        sa.ForeignKeyConstraint(["other_chat_id"], ["chat.id"], name=op.f("fk_link_other_chat_id_chat")),
        sa.ForeignKeyConstraint(["other_id"], ["person.id"], name=op.f("fk_link_other_id_person")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_link_person_id_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_link")),
        sa.UniqueConstraint("digest", name=op.f("uq_link_digest")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("link", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_link_other_id"), ["other_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_link_person_id"), ["person_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_link_until"), ["until"], unique=False)

    op.add_column("chat", sa.Column("latest", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("account", sa.Column("brought", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("account", "brought")
    op.drop_column("chat", "latest")
    op.drop_table("link")
