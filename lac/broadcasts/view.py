"""A broadcast as clients are shown it."""

from __future__ import annotations

from lac.broadcasts.model import Broadcast, Role


def broadcast_view(broadcast: Broadcast, *, role: Role | None, listener_count: int) -> dict[str, object]:
    """The JSON object of `GET /api/broadcasts/:id`, without the stream key: it is not for a room's frames."""
    return {
        "id": broadcast.id,
        "title": broadcast.title,
        "description": broadcast.description,
        "status": broadcast.status,
        "visibility": broadcast.visibility,
        "tags": list(broadcast.tags),
        "scheduledAt": broadcast.scheduled_at,
        "startedAt": broadcast.started_at,
        "endedAt": broadcast.ended_at,
        "recordingEnabled": broadcast.recording_enabled,
        "rewindEnabled": broadcast.rewind_enabled,
        "host": {"id": broadcast.host_id, "displayName": broadcast.host_name},
        "listenerCount": listener_count,
        "createdAt": broadcast.created_at,
        "updatedAt": broadcast.updated_at,
        "yourRole": role,
    }
