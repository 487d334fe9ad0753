"""Who may come in: to a room, to its media, just now. Everything that asks before somebody hears or is heard.

`Admission` decides; rooms and sessions are opened by others. Whoever lets somebody in compares `rights_changed` before
and after what it has to wait for here: a right that ends meanwhile is not given out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from lac.auth.tokens import hash_address
from lac.broadcasts import policy
from lac.broadcasts.jobs import shutting_down
from lac.broadcasts.live_broadcast import Changes, LiveBroadcast
from lac.broadcasts.model import Broadcast, Role
from lac.broadcasts.service import check_visible
from lac.broadcasts.visitor import Visitor, removed_error
from lac.clock import utc_now
from lac.errors import ConflictError, ForbiddenError, UnavailableError
from lac.identity import Identity, IdentityKind
from lac.ids import new_id
from lac.rooms.kept_out import KeptOut
from lac.rooms.records import Records
from lac.rooms.state import RoomState
from lac.rooms.text import clean_name
from lac.rooms.values import HlsAddress
from lac_media.load import RETRY_AFTER_S
from lac_media.parameters import Direction

if TYPE_CHECKING:
    from lac.auth.service import AuthService
    from lac.broadcasts.hls_pass import HlsPass
    from lac.broadcasts.service import BroadcastService
    from lac.config import Settings
    from lac_media.engine import Engine

GUEST_NAME = "Guest"
#: So full the server may be, of where it begins to send listeners to HLS, for some of them to come back.
RETURN_BELOW = 0.8


class Admission:
    """Of all broadcasts. `shows` are those that have a task, by their ids; they are `OnAir`'s."""

    def __init__(
        self,
        shows: Mapping[str, LiveBroadcast],
        records: Records,
        engine: Engine,
        broadcasts: BroadcastService,
        auth: AuthService,
        settings: Settings,
    ) -> None:
        self.changes = Changes()
        #: Nobody comes in any more.
        self.draining = False
        #: Broadcast -> who may not come in: outlives a waiting room that empties, ends with the broadcast.
        self.kept_out: dict[str, KeptOut] = {}
        #: Because the machine, or the operator, allows no more.
        self.listeners_refused = 0
        self._shows = shows
        self._records = records
        self._engine = engine
        self._broadcasts = broadcasts
        self._auth = auth
        self._address_key = settings.jwt_secret
        self._offload_from = settings.hls_offload_listeners

    def rights_changed(self) -> int:
        """Counts what takes rights away or gives them."""
        return self.changes.count

    def live_broadcast(self, broadcast_id: str) -> Broadcast | None:
        show = self._shows.get(broadcast_id)
        return show.broadcast if show is not None and show.on_air and not show.over else None

    async def check_may_listen(
        self, identity: Identity | None, broadcast_id: str, address_hash: str | None, *, entering: bool
    ) -> Broadcast:
        """As for a media session; `entering`: newcomers are kept out while the room is locked."""
        self.check_admitting()
        identity = for_broadcast(identity, broadcast_id)
        broadcast, role = await self.check_media(identity, broadcast_id, Direction.RECV, address_hash)
        show = self._shows.get(broadcast_id)
        if entering and show is not None and show.on_air:
            await show.ready.wait()
            show.check_may_enter(replace(media_visitor(identity, role), address_hash=address_hash))
        return broadcast

    async def identify_listener(self, broadcast_id: str, listener: HlsPass) -> Identity | None:
        if listener.person_id is None:
            return None
        if listener.is_guest:
            return Identity(
                IdentityKind.GUEST,
                listener.person_id,
                GUEST_NAME,
                broadcast_id=broadcast_id,
                invite_version=listener.invite_version,
            )
        return await self._auth.identify_sign_in(listener.person_id, listener.sign_in_id or "")

    def check_not_kept_out(self, broadcast_id: str, person_id: str | None, address_hash: str | None) -> None:
        kept_out = self.kept_out.get(broadcast_id)
        if kept_out is not None and kept_out.has(person_id, address_hash, utc_now()):
            raise removed_error()

    def prefers_hls(self) -> bool:
        return not self._engine.may_take_listener or self._engine.listeners >= self._offload_from

    def room_for_listeners(self) -> int:
        """Below where people are sent to HLS: they are not to go to and fro."""
        if not self._engine.may_take_listener:
            return 0
        return max(0, int(self._offload_from * RETURN_BELOW) - self._engine.listeners)

    def readmit(self, broadcast_id: str, person_id: str) -> None:
        """A ban was lifted: the person may come back in."""
        kept_out = self.kept_out.get(broadcast_id)
        if kept_out is not None:
            kept_out.readmit(person_id)

    def check_load(self, hls_address: Callable[[], HlsAddress | None], *, radio: bool) -> None:
        """Whoever is in keeps on hearing well: it is those who come now who listen by HLS, or wait. A radio cannot
        change over, and costs little: for it there are never too many, only too much to do."""
        if self._engine.may_take_listener if radio else not self.prefers_hls():
            return
        self.listeners_refused += 1
        hls = hls_address()
        if self._engine.may_take_listener:
            raise UnavailableError(
                "Many are listening. Listen by HLS, or try again when there are fewer.",
                retry_after_s=RETRY_AFTER_S,
                code="use_hls",
                hls=hls,
            )
        raise UnavailableError(
            "The server has as many listeners as it can bear just now. Listen by HLS, or try again in a few seconds.",
            retry_after_s=RETRY_AFTER_S,
            code="overloaded",
            hls=hls,
        )

    def check_admitting(self) -> None:
        if self.draining:
            raise shutting_down()

    def check_may_enter(self, visitor: Visitor, broadcast: Broadcast) -> None:
        """As the room would, which is not open yet."""
        self.check_admitting()
        if visitor.role is Role.ADMIN:
            return
        self.check_not_kept_out(broadcast.id, visitor.id, visitor.address_hash)
        RoomState(settings=broadcast.settings).check_lock(visitor.id, visitor.role)

    async def check_media(
        self, identity: Identity | None, broadcast_id: str, direction: Direction, address_hash: str | None
    ) -> tuple[Broadcast, Role]:
        """The broadcast and the caller's role in it, if they may have such a session."""
        if identity is not None:
            await self._auth.check_signed_in(identity)
        show = self._shows.get(broadcast_id)
        if identity is None and show is not None and show.on_air and not show.over:
            broadcast = show.broadcast  # thousands come this way at once: no query for each
        else:
            broadcast = await self._broadcasts.get(identity, broadcast_id)
        role = await self._broadcasts.role_of(identity, broadcast) if identity is not None else Role.LISTENER
        if direction is Direction.SEND:
            policy.may_publish(role, broadcast)
        elif identity is not None and identity.kind is IdentityKind.STREAM_KEY:
            raise ForbiddenError("A stream key is for publishing only.")
        elif identity is None:
            check_visible(None, None, broadcast)
        await self.check_not_removed(identity, role, broadcast_id, address_hash)
        return broadcast, role

    async def check_not_removed(
        self, identity: Identity | None, role: Role, broadcast_id: str, address_hash: str | None
    ) -> None:
        """Neither removed from this show nor banned. An admin could undo either, so neither binds an admin."""
        if role is Role.ADMIN:
            return
        person_id = None if identity is None else identity.id
        self.check_not_kept_out(broadcast_id, person_id, address_hash)
        if identity is None and (address_hash is None or broadcast_id in self._shows):
            return  # a room that is open knows the bans
        if await self._records.is_banned(broadcast_id, person_id or "", address_hash=address_hash):
            raise removed_error()

    def address_hash(self, identity: Identity | None, address: str | None) -> str | None:
        """Of somebody without an account: what a ban knows them by. None for an address that says nothing: that of a
        proxy on this machine which `LAC_TRUSTED_PROXIES` does not name would stand for everybody."""
        if address is None or (identity is not None and not identity.is_guest):
            return None
        try:
            if ipaddress.ip_address(address).is_loopback:
                return None
        except ValueError:
            return None
        return hash_address(address, key=self._address_key)

    async def account_role(self, identity: Identity, broadcast: Broadcast) -> Role:
        """The role for anything but media: a stream key publishes as the host and is nothing more than that."""
        if identity.kind is not IdentityKind.USER:
            return Role.LISTENER
        return await self._broadcasts.role_of(identity, broadcast)

    def room_visitor(self, identity: Identity | None, role: Role, broadcast_id: str, name: str | None) -> Visitor:
        if identity is None or identity.is_guest:
            # A guest who comes back under another name is the same person: whoever removes them removes their media.
            guest_id = f"guest-{new_id()}" if identity is None else identity.id
            display_name = clean_name(name, GUEST_NAME if identity is None else identity.display_name)
            invite_version = None if identity is None else identity.invite_version
            token = self._auth.issue_guest(broadcast_id, guest_id, display_name, invite_version=invite_version)
            return Visitor(
                guest_id, display_name, role, anonymous=True, user_id=None, token=token, invite_version=invite_version
            )
        return Visitor(
            identity.id,
            identity.display_name,
            role,
            anonymous=False,
            user_id=identity.id,
            sign_in_id=identity.sign_in_id,
        )


def already_ended() -> ConflictError:
    return ConflictError("This show has ended.", code="already_ended")


def for_broadcast(identity: Identity | None, broadcast_id: str) -> Identity | None:
    """A guest's token is for one broadcast; in another it is worth no more than no token."""
    return None if identity is not None and identity.is_guest and identity.broadcast_id != broadcast_id else identity


def media_visitor(identity: Identity | None, role: Role) -> Visitor:
    """Whose sessions these are: a stream key's are the host's, and without a token they are nobody else's."""
    if identity is None:
        return Visitor(f"anon-{new_id()}", GUEST_NAME, role, anonymous=True, user_id=None)
    user_id = None if identity.is_guest else identity.id
    return Visitor(
        identity.id,
        identity.display_name,
        role,
        anonymous=identity.is_guest,
        user_id=user_id,
        by_stream_key=identity.kind is IdentityKind.STREAM_KEY,
        sign_in_id=identity.sign_in_id,
        invite_version=identity.invite_version,
    )
