"""The store's migrations (Alembic)."""
