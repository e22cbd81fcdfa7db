"""Fair use: what is kept of an attempt."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kept", sa.Double(), nullable=True))
