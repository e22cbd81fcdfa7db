"""Fair use: what is kept of an attempt, and the work of a job."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("kept", sa.Double(), nullable=True))
    op.add_column("jobs", sa.Column("work", sa.Double(), nullable=True))
