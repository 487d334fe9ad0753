"""What is in a host's podcast: recordings of public shows that have their copy, and what is on air or planned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy import orm

from lac.broadcasts import store as broadcasts
from lac.broadcasts.model import Broadcast, BroadcastStatus, Visibility
from lac.clock import Clock, utc_now
from lac.config import Settings
from lac.db import models
from lac.db.engine import Database
from lac.errors import NotFoundError
from lac.recordings import derivative_store
from lac.recordings import store as recordings
from lac.recordings.derivative import Derivative, DerivativeStatus, Kind, content_type
from lac.recordings.feed import Episode, LiveItem, Podcast
from lac.recordings.model import Recording, RecordingStatus
from lac.recordings.places import Places
from lac.urls import base_url_of

#: Where our own picture is. What players keep for months is under a name of its own: another picture is another name.
COVER_PATH = "/podcasts/cover-1.png"
#: The latest ones; players keep what they have seen.
MAX_EPISODES = 300
MAX_LIVE = 20
#: Shows that are planned for later are not in it yet.
AHEAD = timedelta(days=30)
#: One that has not begun so long after its time will not.
LATE = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class PublicEpisode:
    """A recording that everybody may hear, with its copy, if it is made."""

    recording: Recording
    broadcast: Broadcast
    audio: Derivative | None


class PodcastService:
    def __init__(self, db: Database, settings: Settings, places: Places, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._places = places
        self._clock = clock
        self._base_url = base_url_of(settings)
        self._settings = settings.recordings
        self._enabled = self._settings.podcasts

    async def podcast(self, host_id: str) -> Podcast:
        """Raises `NotFoundError` for an account that there is not, or a server without podcasts."""
        if not self._enabled:
            raise _not_found()
        return await self._db.read(partial(self._collect, host_id=host_id, now=self._clock()))

    async def episode(self, host_id: str, recording_id: str) -> PublicEpisode:
        """Raises `NotFoundError`, also for one that not everybody may hear (any more)."""

        def find(session: orm.Session) -> PublicEpisode | None:
            recording = recordings.find(session, recording_id)
            broadcast = None if recording is None else broadcasts.find(session, recording.broadcast_id)
            if recording is None or broadcast is None or recording.status is not RecordingStatus.READY:
                return None
            if broadcast.host_id != host_id or broadcast.visibility is not Visibility.PUBLIC:
                return None
            return PublicEpisode(recording, broadcast, derivative_store.find(session, recording_id, Kind.M4A))

        found = await self._db.read(find) if self._enabled else None
        if found is None:
            raise _not_found()
        return found

    async def chapters(self, host_id: str, recording_id: str) -> list[tuple[float, str]]:
        """What the hosts marked. Raises `NotFoundError`."""
        found = await self.episode(host_id, recording_id)
        manifest = await self._places.manifest(found.recording.id)
        if manifest is None:
            raise _not_found()
        return [(chapter.start_s, chapter.title) for chapter in manifest.chapters if chapter.kind == "marker"]

    def feed_url(self, host_id: str) -> str:
        return f"{self._base_url}/podcasts/{host_id}/feed.xml"

    def _collect(self, session: orm.Session, host_id: str, now: datetime) -> Podcast:
        host = session.get(models.User, host_id)
        if host is None:
            raise _not_found()
        episodes, changes = self._episodes(session, host_id)
        live, live_changes = self._live(session, host_id, now)
        name = host.display_name
        return Podcast(
            feed_url=self.feed_url(host_id),
            page_url=f"{self._base_url}/u/{host_id}",
            title=name,
            description=f"Shows by {name}",
            author=name,
            image_url=self._settings.podcast_image_url or f"{self._base_url}{COVER_PATH}",
            language=self._settings.podcast_language,
            category=self._settings.podcast_category,
            explicit=self._settings.podcast_explicit,
            updated_at=max([host.updated_at, *changes, *live_changes]),
            episodes=episodes,
            live=live,
        )

    def _episodes(self, session: orm.Session, host_id: str) -> tuple[list[Episode], list[datetime]]:
        show, recording, copy = models.Broadcast, models.Recording, models.RecordingDerivative
        query = (
            sa.select(recording, show, copy)
            .join(show, show.id == recording.broadcast_id)
            .join(copy, sa.and_(copy.recording_id == recording.id, copy.kind == Kind.M4A))
            .where(
                show.host_id == host_id,
                show.visibility == Visibility.PUBLIC,
                recording.status == RecordingStatus.READY,
                copy.status == DerivativeStatus.READY,
            )
            .order_by(recording.started_at.desc(), recording.id)
            .limit(MAX_EPISODES)
        )
        episodes, changes = [], []
        for found, of, made in session.execute(query):
            place = f"{self._base_url}/podcasts/{host_id}/{found.id}"
            episodes.append(
                Episode(
                    id=found.id,
                    title=found.title,
                    description=found.description or of.description,
                    published_at=found.ended_at or found.started_at,
                    duration_s=made.duration_s or 0.0,
                    page_url=f"{self._base_url}/b/{of.id}",
                    audio_url=f"{place}.m4a",
                    audio_type=content_type(Kind.M4A),
                    audio_bytes=made.size_bytes or 0,
                    chapters_url=f"{place}/chapters.json" if made.detail.get("chapters") else None,
                    keywords=tuple(of.tags),
                )
            )
            changes += [made.finished_at or found.started_at, of.updated_at]
        return episodes, changes

    def _live(self, session: orm.Session, host_id: str, now: datetime) -> tuple[list[LiveItem], list[datetime]]:
        show = models.Broadcast
        planned = (show.status == BroadcastStatus.SCHEDULED) & show.scheduled_at.between(now - LATE, now + AHEAD)
        query = (
            sa.select(show)
            .where(
                show.host_id == host_id,
                show.visibility == Visibility.PUBLIC,
                (show.status == BroadcastStatus.LIVE) | planned,
            )
            .order_by(show.status, show.listed_at, show.id)
            .limit(MAX_LIVE)
        )
        found = session.scalars(query).all()
        items = [
            LiveItem(
                id=one.id,
                title=one.title,
                description=one.description,
                is_live=one.status is BroadcastStatus.LIVE,
                start=one.listed_at,
                page_url=f"{self._base_url}/b/{one.id}",
                stream_url=f"{self._base_url}/listen/{one.id}.mp3",
                stream_type="audio/mpeg",
            )
            for one in found
        ]
        return items, [one.updated_at for one in found]


def _not_found() -> NotFoundError:
    return NotFoundError("There is no such podcast or episode.")
