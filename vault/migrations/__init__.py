"""Schema migrations, run by alembic from `vault.database`."""
