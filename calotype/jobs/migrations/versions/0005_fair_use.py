"""Fair use: what is kept of an attempt, the work of a job, and what people of the chat were given."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kept", sa.Double(), nullable=True))
    op.add_column("jobs", sa.Column("work", sa.Double(), nullable=True))
    for column in (
        sa.Column("own_user", sa.String(length=32), nullable=False, server_default=""),
        sa.Column("name", sa.String(length=100), nullable=False, server_default=""),
        sa.Column("roles", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("is_granted", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("granted", sa.Double(), nullable=True),
        sa.Column("moved", sa.Double(), nullable=False, server_default="0"),
        sa.Column("moved_day", sa.Integer(), nullable=False, server_default="0"),
    ):
        op.add_column("chat_members", column)
    own = "(SELECT u.id FROM users u WHERE u.name = 'discord-' || chat_members.id)"
    op.execute(f'UPDATE chat_members SET own_user = COALESCE({own}, "user")')
    trials = "(SELECT id FROM users WHERE invitation IS NOT NULL)"
    given = "(SELECT u.seconds FROM users u WHERE u.id = own_user)"  # by the owner or by the setting: see 0006
    op.execute(f"UPDATE chat_members SET is_granted = true, granted = {given} WHERE own_user NOT IN {trials}")
