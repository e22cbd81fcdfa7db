"""Alembic's migrations of the store, one file each in `versions`."""
