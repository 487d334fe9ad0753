"""Sign-ins that were good a moment ago: a page asks several things at once, and the database need not be asked each
time who is asking."""

from __future__ import annotations

from collections import OrderedDict

from lac.auth.model import User

#: What this process changes holds at once, see `forget`. What another one changes (`lac user`) holds after this.
FRESH_S = 1.0
#: Accounts remembered; the one that was looked up longest ago goes first.
CAPACITY = 4096


class RecentSignIns:
    """Reads no clock; `now` is monotonic seconds."""

    def __init__(self) -> None:
        #: Changes with everything that is forgotten. What was read before is not remembered after.
        self.version = 0
        self._found: OrderedDict[str, dict[str, tuple[float, User]]] = OrderedDict()

    def find(self, user_id: str, sign_in_id: str, *, now: float) -> User | None:
        """The account, if it was found with this sign-in within `FRESH_S`."""
        found_at, user = self._found.get(user_id, {}).get(sign_in_id, (None, None))
        return user if found_at is not None and now - found_at < FRESH_S else None

    def remember(self, user: User, sign_in_id: str, *, version: int, now: float) -> None:
        """It was found; `version` is that of before the look-up."""
        if version != self.version:
            return
        sign_ins = self._found.setdefault(user.id, {})
        for other in [other for other, (found_at, _) in sign_ins.items() if now - found_at >= FRESH_S]:
            del sign_ins[other]
        sign_ins[sign_in_id] = (now, user)
        self._found.move_to_end(user.id)
        if len(self._found) > CAPACITY:
            self._found.popitem(last=False)

    def forget(self, user_id: str) -> None:
        """Something about the account, or its sign-ins, has changed."""
        self.version += 1
        self._found.pop(user_id, None)
