"""Bans of listeners without an account hold for their address too."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("bans", sa.Column("address_hash", sa.String(length=64)))
    op.create_index("ix_bans_broadcast_id_address_hash", "bans", ["broadcast_id", "address_hash"])


def downgrade() -> None:
    op.drop_index("ix_bans_broadcast_id_address_hash", "bans")
    op.drop_column("bans", "address_hash")
