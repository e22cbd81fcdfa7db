"""Roles by server, and what of a job's cost stays charged.

What people had before is kept, but no longer taken for a grant of the owner's: which one it was is decided when the bot
starts, by its setting (`ChatPeople.settle`). A migration does not know that.
"""

import time

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0006", "0005"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("settled", sa.Double(), nullable=False, server_default="0"))
    op.create_table(
        "chat_roles",
        sa.Column("member", sa.String(length=32), nullable=False),
        sa.Column("server", sa.String(length=32), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["member"], ["chat_members.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("member", "server"),
    )
    known = f"SELECT id, '', roles, {time.time()} FROM chat_members WHERE roles <> '[]'"
    op.execute(f"INSERT INTO chat_roles (member, server, roles, seen) {known}")
    op.execute("UPDATE chat_members SET is_granted = false WHERE is_granted AND granted IS NOT NULL")
    op.drop_column("chat_members", "roles")
    op.drop_column("chat_members", "is_own")
