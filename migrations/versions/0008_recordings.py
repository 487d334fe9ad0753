"""What recordings know of themselves, and the files of removed ones that have yet to go."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _columns() -> list[sa.Column[object]]:
    return [
        sa.Column("description", sa.Text(), nullable=False, server_default=sa.text("''")),
        sa.Column("sha256", sa.String(64)),
        sa.Column("media_start_s", sa.Double(), nullable=False, server_default=sa.text("0")),
        sa.Column("part", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("started_by", sa.String(64)),
        sa.Column("end_reason", sa.String(16)),
        sa.Column("failure", sa.String(32)),
        sa.Column("lost_s", sa.Double(), nullable=False, server_default=sa.text("0")),
        sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("1")),
    ]


def upgrade() -> None:
    for column in _columns():
        op.add_column("recordings", column)
    op.create_index("ix_recordings_started_at_id", "recordings", ["started_at", "id"])
    op.create_table(
        "removed_recordings",
        sa.Column("recording_id", sa.String(64), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("recording_id", name="pk_removed_recordings"),
    )


def downgrade() -> None:
    op.drop_table("removed_recordings")
    op.drop_index("ix_recordings_started_at_id", "recordings")
    for column in reversed(_columns()):
        op.drop_column("recordings", column.name)
