"""Whether a worker is to drop its models."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    op.add_column("workers", sa.Column("unload", sa.Boolean(), nullable=False, server_default=sa.false()))
