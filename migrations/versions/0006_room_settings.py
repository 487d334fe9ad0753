"""What moderators set for the room of a broadcast."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("broadcasts", sa.Column("slow_mode_s", sa.Integer(), nullable=False, server_default=sa.text("0")))
    for name in ("followers_only", "chat_closed", "locked"):
        op.add_column("broadcasts", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    for name in ("locked", "chat_closed", "followers_only", "slow_mode_s"):
        op.drop_column("broadcasts", name)
