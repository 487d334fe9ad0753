"""What the web layer calls. One object, made by the composition root and handed to `create_app`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from quart import Quart, current_app

if TYPE_CHECKING:
    from lac.auth.service import AuthService
    from lac.broadcasts.live import OnAir
    from lac.broadcasts.service import BroadcastService
    from lac.config import Settings
    from lac.db.engine import Database
    from lac.recordings.afterwards import Afterwards
    from lac.recordings.archive import Archive
    from lac.recordings.service import RecordingService
    from lac_media.engine import Engine

_EXTENSION = "lac"


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    db: Database
    engine: Engine
    auth: AuthService
    broadcasts: BroadcastService
    on_air: OnAir
    archive: Archive
    recordings: RecordingService
    afterwards: Afterwards


def attach_services(app: Quart, services: Services) -> None:
    app.extensions[_EXTENSION] = services


def current_services() -> Services:
    """The services of the app that handles the present request."""
    return cast("Services", current_app.extensions[_EXTENSION])
