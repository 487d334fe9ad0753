"""Runs the revisions on the connection that `lac.db.migrate` hands over, inside its transaction."""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from lac.db.models import Base, Identifier, UtcDateTime


def render_item(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """A revision spells out its types: it must not change when the models do."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, Identifier):
        return f"sa.String(length={item.impl.length})"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    render_item=render_item,
    compare_server_default=True,
    # SQLite can do it; without this a failed migration would stay half done.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
