"""Alembic migrations: the only way in which the schema changes. One revision per change."""
