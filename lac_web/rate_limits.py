"""Who may do how much of what costs us something: by address before the request is read, by account when it is known.

`TokenBuckets` is the pure core. `RULES` is the one table of the routes that are limited; a route of it answers 429
with Retry-After.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import cast

import trio
from quart import Quart, current_app, request

from lac.config import Settings
from lac.errors import ForbiddenError, NotSignedInError, TooManyRequestsError
from lac.identity import Identity
from lac.limits import Limit
from lac.rooms.commands import ChatMessage, Command, Join, RaiseHand, Reaction
from lac_web.client_address import address_group, address_of

_EXTENSION = "lac_rate_limits"
#: Keys remembered for one limit: about 10 MB when they are all there. Those that were used longest ago are forgotten.
CAPACITY = 50_000


class TokenBuckets:
    """One bucket for each key, in one number: when it will be full again. Reads no clock; `now` is monotonic seconds.

    Memory is bounded. Somebody who can use more than `capacity` keys within the time in which one refills gains
    nothing by having the oldest forgotten: they have that many full buckets anyway.
    """

    def __init__(self, limit: Limit, *, capacity: int = CAPACITY) -> None:
        self._interval_s = 1.0 / limit.per_s
        #: From empty to full.
        self._depth_s = limit.burst * self._interval_s
        self._capacity = capacity
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, *, now: float) -> float:
        """Take one token: 0.0. If there is none, nothing changes and the answer is the seconds until there is one."""
        full_at = max(self._full_at.get(key, now), now)
        wait_s = full_at + self._interval_s - self._depth_s - now
        if wait_s > 1e-9 * self._depth_s:
            return wait_s
        self._full_at[key] = full_at + self._interval_s
        self._full_at.move_to_end(key)
        self._forget(now)
        return 0.0

    def give_back(self, key: str) -> None:
        """Undo one `take`."""
        if key in self._full_at:
            self._full_at[key] -= self._interval_s

    def _forget(self, now: float) -> None:
        """The two oldest, if they are full again: as fast as keys can come. And whatever is too many."""
        for _ in range(2):
            key = next(iter(self._full_at))
            if self._full_at[key] > now:
                break
            del self._full_at[key]
        if len(self._full_at) > self._capacity:
            self._full_at.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """Names of fields of `RateLimits`."""

    by_address: str
    by_account: str | None = None
    #: By account and address together.
    by_both: str | None = None
    #: A request that succeeds is not held against the account.
    failures_only: bool = False


_PASSWORD = Rule("sign_in_by_address", "sign_in_by_account", "sign_in_by_both", failures_only=True)
_LINK = Rule("link_by_address")
_RECORD = Rule("record_by_address", "record_by_account")
_MEDIA = Rule("media_by_address", "media_by_account")

#: By Quart's name of the route.
RULES: dict[str, Rule] = {
    "auth.register": Rule("register_by_address", "register_by_account"),
    "auth.login": _PASSWORD,
    "auth.change_password": _PASSWORD,
    "auth.delete_me": _PASSWORD,
    "auth.refresh": Rule("refresh_by_address"),
    "auth.setup_admin": _LINK,
    "auth.request_password_reset": Rule("mail_by_address"),
    "auth.confirm_password_reset": _LINK,
    "auth.verify_email": _LINK,
    "broadcasts.accept_invite": Rule("invite_by_address"),
    "recordings.start_recording": _RECORD,
    "recordings.stop_recording": _RECORD,
    "recordings.mark_chapter": _RECORD,
    "recordings.download_recording": Rule("download_by_address"),
    "recordings.download_track": Rule("download_by_address"),
    "exports.request_export": Rule("export_by_address", "export_by_account"),
    "exports.download_export": Rule("download_by_address"),
    "exports.get_peaks": Rule("download_by_address"),
    "podcasts.get_feed": Rule("feed_by_address"),
    "podcasts.get_episode": Rule("download_by_address"),
    "podcasts.get_episode_chapters": Rule("feed_by_address"),
    "mediasoup.open_transport": _MEDIA,
    "whip.whip_publish": _MEDIA,
    "whep.whep_listen": _MEDIA,
    "hls.hls_address": _MEDIA,
    "hls.hls_index": _MEDIA,
    "listen.listen": _MEDIA,
    "source.publish_source": _MEDIA,
    "source.publish_source_as_before": _MEDIA,
    "source.update_metadata": _MEDIA,
}

#: The room's commands. `join` counts by address for everyone; the others for guests only, who can come as somebody new
#: each time; who has an account counts as that, on all sockets together.
COMMAND_RULES: dict[type[Command], Rule] = {
    Join: Rule("join_by_address", "join_by_account"),
    ChatMessage: Rule("chat_by_address", "chat_by_account"),
    Reaction: Rule("reaction_by_address", "reaction_by_account"),
    RaiseHand: Rule("hand_by_address", "hand_by_account"),
}
ALL_RULES = (*RULES.values(), *COMMAND_RULES.values())


class RateLimiter:
    """The buckets of one application. Routes that share a limit share its buckets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        names = {name for rule in ALL_RULES for name in (rule.by_address, rule.by_account, rule.by_both) if name}
        self._buckets = {name: TokenBuckets(getattr(settings.rate_limits, name)) for name in names}
        #: Refused so far, by limit: for /metrics.
        self.refused = dict.fromkeys(sorted(names), 0)

    def charge(self, limit: str, key: str) -> None:
        """Raises `TooManyRequestsError` when `key` has used its share of `limit`, a field of `RateLimits`."""
        wait_s = self._buckets[limit].take(key, now=trio.current_time())
        if wait_s > 0.0:
            self.refused[limit] += 1
            raise TooManyRequestsError("Too many attempts. Wait a moment, then try again.", retry_after_s=wait_s)

    def charge_address(self) -> None:
        """For the present request, by its route and where it comes from."""
        rule = RULES.get(request.endpoint or "")
        if rule is not None and request.method not in ("OPTIONS", "HEAD"):
            self.charge(rule.by_address, self._address())

    @contextmanager
    def account_limit(self, account: str) -> Iterator[None]:
        """Round what the present request does for `account`: an id, or an e-mail address where nobody is signed in."""
        rule = RULES.get(request.endpoint or "")
        charges = [] if rule is None else list(self._account_charges(rule, account))
        charged: list[tuple[str, str]] = []
        keep = rule is None or not rule.failures_only
        try:
            for limit, key in charges:
                self.charge(limit, key)
                charged.append((limit, key))
            yield
        except (NotSignedInError, ForbiddenError):  # a wrong guess
            keep = True
            raise
        finally:
            if not keep:
                for limit, key in charged:
                    self._buckets[limit].give_back(key)

    def charge_command(self, command: type[Command], *, address: str | None, account: str | None) -> None:
        """For a command of the room: by where it comes from, by who is signed in, or by both, as given."""
        rule = COMMAND_RULES.get(command)
        if rule is None:
            return
        if address is not None:
            self.charge(rule.by_address, address_group(address))
        if account is not None and rule.by_account is not None:
            self.charge(rule.by_account, account)

    def _account_charges(self, rule: Rule, account: str) -> Iterator[tuple[str, str]]:
        account = account.strip().casefold()
        if rule.by_both is not None:
            yield rule.by_both, f"{self._address()} {account}"
        if rule.by_account is not None:
            yield rule.by_account, account

    def _address(self) -> str:
        return address_group(address_of(request, self._settings.trusted_proxies))


def rate_limiter() -> RateLimiter:
    """That of the app which handles the present request."""
    return cast("RateLimiter", current_app.extensions[_EXTENSION])


def account_limit(identity: Identity | None, data: object = None) -> AbstractContextManager[None]:
    """Round a handler: its limit by account, for whoever is signed in or for the e-mail address in the request."""
    account = identity.id if identity is not None else getattr(data, "email", None)
    return rate_limiter().account_limit(account) if isinstance(account, str) else nullcontext()


def register_rate_limits(app: Quart, limiter: RateLimiter) -> None:
    app.extensions[_EXTENSION] = limiter

    async def check_address() -> None:
        limiter.charge_address()

    app.before_request(check_address)
