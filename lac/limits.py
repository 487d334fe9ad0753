"""How often somebody may do what costs us something. Only the numbers: `lac_web.rate_limits` counts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` at once, then one every `1 / per_s` seconds."""

    burst: int
    per_s: float

    def scaled(self, factor: float) -> Limit:
        return Limit(max(1, round(self.burst * factor)), self.per_s * factor)


@dataclass(frozen=True, slots=True)
class RateLimits:
    """An address may be a whole office or school behind one router, so what counts by address is generous; what counts
    by account or by e-mail address is what one person needs. Tests and operators raise them (`LAC_LIMITS_FACTOR`).
    """

    #: Each attempt costs a tenth of a second of a core for the password's hash.
    sign_in_by_address: Limit = Limit(60, 0.5)
    #: Only attempts that fail count: a person who knows the password is never kept out by their own sign-ins. From one
    #: address few guesses; for one account, from wherever, more: a stranger alone cannot keep its owner out.
    sign_in_by_both: Limit = Limit(10, 1 / 30)
    sign_in_by_account: Limit = Limit(100, 0.2)
    register_by_address: Limit = Limit(60, 0.1)
    register_by_account: Limit = Limit(10, 1 / 30)
    refresh_by_address: Limit = Limit(300, 5.0)
    #: Single-use links: first administrator, password, e-mail address. Nobody guesses one; nobody shall try.
    link_by_address: Limit = Limit(20, 0.1)
    #: A whole class may open the invite link at once; nobody guesses one.
    invite_by_address: Limit = Limit(200, 2.0)
    #: Whoever makes us send mail to others. Each account has its own limit besides.
    mail_by_address: Limit = Limit(20, 1 / 30)
    #: A room full of listeners behind one address all press "listen" when the show begins.
    media_by_address: Limit = Limit(500, 20.0)
    media_by_account: Limit = Limit(60, 1.0)
    #: The same of the room's sockets; a page that reconnects joins again.
    join_by_address: Limit = Limit(500, 20.0)
    join_by_account: Limit = Limit(60, 1.0)
    record_by_address: Limit = Limit(100, 2.0)
    record_by_account: Limit = Limit(30, 0.5)
    export_by_address: Limit = Limit(100, 1.0)
    export_by_account: Limit = Limit(20, 1 / 30)
    #: Many players behind one address look for news of many podcasts.
    feed_by_address: Limit = Limit(300, 5.0)
    #: A player asks for a part at every jump.
    download_by_address: Limit = Limit(600, 20.0)
    #: In the room an account counts on all its sockets together. Guests come from an address: others may, too.
    chat_by_account: Limit = Limit(10, 1.0)
    chat_by_address: Limit = Limit(60, 6.0)
    reaction_by_account: Limit = Limit(30, 6.0)
    reaction_by_address: Limit = Limit(200, 40.0)
    hand_by_account: Limit = Limit(10, 0.2)
    hand_by_address: Limit = Limit(40, 1.0)

    def scaled(self, factor: float) -> RateLimits:
        """All of them times `factor`."""
        return RateLimits(
            **{field.name: getattr(self, field.name).scaled(factor) for field in dataclasses.fields(self)}
        )
