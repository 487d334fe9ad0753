"""Recordings as people see them: find, list, change, remove, and where their files are. What makes them is
`lac.recordings.archive`'s and `lac.recordings.show_recorder`'s.

Who may know of a broadcast may know of its recordings that are ready. Before that, and when they have failed, they are
for those who run it; single speakers' tracks and the manifest always are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import orm

from lac.audit import add_audit
from lac.broadcasts import policy
from lac.broadcasts.model import Broadcast, Role
from lac.broadcasts.service import DESCRIPTION_MAX, TITLE_MAX, BroadcastService
from lac.clock import Clock, utc_now
from lac.db import models
from lac.db.engine import Database
from lac.errors import ChangedError, ConflictError, NotFoundError
from lac.identity import Identity, IdentityKind
from lac.paging import Page, check_limit, decode_cursor_untrusted
from lac.recordings import store
from lac.recordings.archive import Archive
from lac.recordings.manifest import Manifest
from lac.recordings.model import Recording, RecordingStatus
from lac.rooms.acts import RoomAct
from lac.text import clean_line, clean_text, invalid

#: How far the wall clock may have been set during a show.
CHAT_SLACK = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Found:
    """A recording, the broadcast that it is of, and the caller's part in that."""

    recording: Recording
    broadcast: Broadcast
    role: Role

    @property
    def sees_tracks(self) -> bool:
        return policy.is_allowed(self.role, policy.Act.SEE_TRACKS)


class RecordingService:
    def __init__(self, db: Database, broadcasts: BroadcastService, archive: Archive, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._broadcasts = broadcasts
        self._archive = archive
        self._clock = clock

    async def get(self, identity: Identity | None, recording_id: str) -> Found:
        """Raises `NotFoundError` when there is none, and likewise when the caller may not know of it (yet)."""
        recording = await self._db.read(lambda session: store.find(session, recording_id))
        if recording is None:
            raise _not_found()
        try:
            broadcast = await self._broadcasts.get(identity, recording.broadcast_id)
        except NotFoundError:
            raise _not_found() from None
        role = await self._role_of(identity, broadcast)
        if recording.status is not RecordingStatus.READY and not policy.is_allowed(role, policy.Act.SEE_TRACKS):
            raise _not_found()
        return Found(recording, broadcast, role)

    async def list(
        self,
        identity: Identity | None,
        broadcast_id: str | None = None,
        host_id: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[Recording]:
        """The latest first: of one broadcast that the caller may know of, or of all public ones and the caller's own;
        an admin sees all."""
        check_limit(limit)
        after = None if cursor is None else decode_cursor_untrusted(cursor)
        if after is not None and after.section != store.SECTION:
            raise invalid("cursor", "is not one that this list gave", code="invalid_cursor")
        account = identity if identity is not None and identity.kind is IdentityKind.USER else None
        sees_unfinished = False
        if broadcast_id is not None:
            role = await self._role_of(identity, await self._broadcasts.get(identity, broadcast_id))
            sees_unfinished = policy.is_allowed(role, policy.Act.SEE_TRACKS)
        return await self._db.read(
            lambda session: store.list_page(
                session,
                viewer_id=None if account is None else account.id,
                sees_all=account is not None and account.is_admin,
                broadcast_id=broadcast_id,
                host_id=host_id,
                sees_unfinished=sees_unfinished,
                limit=limit,
                after=after,
            )
        )

    async def update(
        self,
        identity: Identity,
        recording_id: str,
        changes: Mapping[str, Any],
        *,
        only_if: Callable[[Recording], bool] | None = None,
    ) -> Found:
        """Change the title or the description. Raises `ChangedError` when `only_if` says that it is not what the caller
        has seen."""
        values = _checked(changes)
        found = await self.get(identity, recording_id)
        policy.require(found.role, policy.Act.EDIT)

        def change(session: orm.Session) -> Recording:
            current = store.find(session, recording_id, for_update=True)
            if current is None:
                raise _not_found()
            if only_if is not None and not only_if(current):
                raise ChangedError("Somebody has changed this recording since you read it. Read it again.")
            return store.change(session, recording_id, values)

        return Found(await self._db.run(change), found.broadcast, found.role)

    async def delete(self, identity: Identity, recording_id: str) -> None:
        """Remove it and its files. Raises `ConflictError` (recording_active) for one that is being made."""
        found = await self.get(identity, recording_id)
        policy.require(found.role, policy.Act.DELETE)

        def remove(session: orm.Session) -> None:
            recording = store.find(session, recording_id, for_update=True)
            if recording is None:
                raise _not_found()
            if recording.status in store.UNFINISHED:
                raise ConflictError("It is still being made. Stop it first, and wait.", code="recording_active")
            at = self._clock()
            store.remove(session, models.Recording.id == recording_id, at=at)
            add_audit(
                session,
                RoomAct.RECORDING_REMOVED,
                at=at,
                actor_id=identity.id,
                broadcast_id=recording.broadcast_id,
                target_id=recording_id,
                detail={"title": recording.title},
            )

        await self._db.run(remove)
        self._archive.wake()

    async def chat(self, found: Found, limit: int = 100, cursor: str | None = None) -> Page[store.Said]:
        """The chat by the recording's time, in order; what is deleted in the show is gone here, too."""
        check_limit(limit)
        after = None if cursor is None else decode_cursor_untrusted(cursor)
        if after is not None and after.section != store.CHAT_SECTION:
            raise invalid("cursor", "is not one that this list gave", code="invalid_cursor")
        return await self._db.read(
            lambda session: store.chat_page(session, found.recording, slack=CHAT_SLACK, limit=limit, after=after)
        )

    async def manifest(self, found: Found) -> Manifest:
        """What it consists of. Raises `NotFoundError` where nothing was ever written."""
        manifest = await self._archive.read_manifest(found.recording.id)
        if manifest is None:
            raise NotFoundError("Nothing of this recording was written.", code="nothing_recorded")
        return manifest

    def directory(self, recording: Recording) -> Path:
        return self._archive.directory(recording.id)

    async def _role_of(self, identity: Identity | None, broadcast: Broadcast) -> Role:
        """For anything but media: a stream key publishes as the host and is nothing more than that."""
        if identity is None or identity.kind is not IdentityKind.USER:
            return Role.LISTENER
        return await self._broadcasts.role_of(identity, broadcast)


def _checked(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Raises `InvalidInputError`."""
    checked = dict(changes)
    if "title" in checked:
        checked["title"] = clean_line("title", checked["title"], max_length=TITLE_MAX)
    if "description" in checked:
        checked["description"] = clean_text("description", checked["description"], max_length=DESCRIPTION_MAX)
    return checked


def _not_found() -> NotFoundError:
    return NotFoundError("There is no such recording.")
