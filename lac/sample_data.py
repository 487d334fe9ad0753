"""A believable data set for trying things out: people, shows that are planned and that have been, chat, follows.

Always the same for the same moment. Nothing is live: a live show has a host whose audio arrives, which rows cannot
fake.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import sqlalchemy as sa
from sqlalchemy import orm

from lac.broadcasts.model import BroadcastStatus, Role, Visibility
from lac.db import models
from lac.ids import new_id

DOMAIN = "example.org"  # RFC 2606: nobody's
#: (address, name, admin). The first five host.
PEOPLE = (
    ("ines", "Inês Carvalho", True),
    ("tomasz", "Tomasz Nowak", False),
    ("amara", "Amara Okafor", False),
    ("yuki", "Yuki Tanaka", False),
    ("leila", "Leila Haddad", False),
    ("ben", "Ben Whitaker", False),
    ("sofia", "Sofía Ramírez", False),
    ("jonas", "Jonas Lindqvist", False),
    ("mei", "Mei Chen", False),
    ("oskar", "Oskar Brandt", False),
    ("nadia", "Nadia Petrova", False),
    ("kwame", "Kwame Mensah", False),
)
_HOSTS = 5


@dataclass(frozen=True, slots=True)
class Turn:
    """Somebody speaks, in seconds of the recording."""

    from_s: float
    until_s: float
    person_id: str
    display_name: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording that a show is to have. `media_start_s` is how long the show had been on by then."""

    broadcast_id: str
    show_started_at: datetime
    media_start_s: float
    title: str
    description: str
    #: One after the other, from second 0 on.
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class _Show:
    host: int
    title: str
    description: str
    tags: tuple[str, ...]
    #: When it starts or started, in hours from now.
    hours: float
    minutes: float = 55
    visibility: Visibility = Visibility.PUBLIC
    recorded: bool = False
    #: Of a show that has been: who spoke, and until which second, of the recording of its end.
    turns: tuple[tuple[int, float], ...] = ()


_DUET = ((0, 8.0), (6, 15.0), (0, 24.0))
_SHOWS = (
    _Show(0, "Late Harbour: jazz after midnight", "Vinyl, no playlist, one candle.", ("jazz", "vinyl"), -170, 118),
    _Show(0, "Late Harbour: the Lisbon sessions", "Live takes from a kitchen in Alfama.", ("jazz", "live"), -2, 96),
    _Show(1, "Kernel Panic #41: schedulers", "Why your laptop fan knows before you do.", ("linux", "tech"), -75, 62),
    _Show(
        2,
        "Market Day",
        "What tomatoes cost in Lagos, and why.",
        ("economy", "lagos"),
        -51,
        44,
        recorded=True,
        turns=((2, 12.0),),
    ),
    _Show(4, "Poems before breakfast", "One poem, read twice.", ("poetry",), -27, 12),
    _Show(3, "Quiet hours: listener questions", "Ask anything about sleep.", ("health",), -26, 51),
    _Show(0, "Late Harbour: sound check", "Two guitars.", ("jazz",), -4, 0.4, recorded=True, turns=_DUET),
    _Show(0, "Late Harbour: requests", "Raise your hand, name a record.", ("jazz", "requests"), 3),
    _Show(1, "Kernel Panic #42: io_uring without tears", "With a guest who wrote some of it.", ("linux", "tech"), 26),
    _Show(2, "Market Day: fuel", "Second-hand generators, first-hand stories.", ("economy",), 50, recorded=True),
    _Show(4, "Poems before breakfast", "Listeners read theirs.", ("poetry", "open mic"), 21),
    _Show(3, "Rehearsal", "Sound check for Friday.", (), 1.5, visibility=Visibility.PRIVATE),
    _Show(
        1,
        "Kernel Panic: editorial meeting",
        "With the link you may listen.",
        ("tech",),
        70,
        visibility=Visibility.UNLISTED,
    ),
)

_CHAT = (
    "Good evening from Gdańsk!",
    "first time here, how does this work?",
    "Just listen, and raise your hand if you want to say something",
    "The sound is really good today",
    "could you turn the guest up a little?",
    "better, thanks!",
    "What was the name of that record?",
    "It's in the description now",
    "ha, that story about the ferry 😂",
    "I have to go, will there be a recording?",
    "Same time next week?",
    "Thank you all, good night 🌙",
)
_EMOJI = ("👍", "❤️", "😂", "👏", "🔥", "🎉")


@dataclass(frozen=True, slots=True)
class Sown:
    people: int
    shows: int
    messages: int
    follows: int
    #: What is to be recorded yet: files are not the database's.
    recorded: tuple[Recorded, ...] = ()


def has_accounts(session: orm.Session) -> bool:
    return session.scalar(sa.select(models.User.id).limit(1)) is not None


def has_samples(session: orm.Session) -> bool:
    addresses = [f"{name}@{DOMAIN}" for name, _, _ in PEOPLE]
    return session.scalar(sa.select(models.User.id).where(models.User.email.in_(addresses)).limit(1)) is not None


def sow(session: orm.Session, *, password_hash: str, now: datetime) -> Sown:
    """Add everything. The same password opens all of the accounts."""
    chance = random.Random(7)  # noqa: S311  believable, not secret
    people = [_person(name, display, admin, password_hash, now) for name, display, admin in PEOPLE]
    session.add_all(people)
    session.flush()
    follows = [
        models.Follow(follower_id=fan.id, followed_id=host.id, created_at=now - timedelta(days=chance.randrange(1, 60)))
        for host in people[:_HOSTS]
        for fan in people
        if fan is not host and chance.random() < 0.6
    ]
    session.add_all(follows)
    messages = 0
    recorded: list[Recorded] = []
    for show in _SHOWS:
        broadcast = _broadcast(show, people[show.host].id, now)
        session.add(broadcast)
        session.flush()
        audience = chance.sample([person for person in people if person.id != broadcast.host_id], 6)
        role = models.BroadcastRole(
            broadcast_id=broadcast.id,
            user_id=audience[0].id,
            role=Role.MODERATOR,
            granted_at=broadcast.created_at,
            granted_by=broadcast.host_id,
        )
        session.add(role)
        if broadcast.status is BroadcastStatus.ENDED:
            messages += _past(session, broadcast, audience, chance)
            if show.turns:
                recorded.append(_recorded(show, broadcast, people))
        elif broadcast.visibility is Visibility.PUBLIC:
            session.add_all(
                models.Reminder(broadcast_id=broadcast.id, user_id=person.id, created_at=now, sent_at=None)
                for person in audience[:3]
            )
    session.flush()
    return Sown(len(people), len(_SHOWS), messages, len(follows), tuple(recorded))


def _person(name: str, display_name: str, is_admin: bool, password_hash: str, now: datetime) -> models.User:
    joined = now - timedelta(days=90 - len(name))
    return models.User(
        id=new_id(),
        email=f"{name}@{DOMAIN}",
        password_hash=password_hash,
        display_name=display_name,
        is_admin=is_admin,
        email_verified_at=joined,
        created_at=joined,
        updated_at=joined,
    )


def _broadcast(show: _Show, host_id: str, now: datetime) -> models.Broadcast:
    begins = (now + timedelta(hours=show.hours)).replace(minute=0, second=0, microsecond=0)
    over = show.hours < 0
    created = min(begins, now) - timedelta(days=3)
    ends = begins + timedelta(minutes=show.minutes)
    return models.Broadcast(
        id=new_id(),
        host_id=host_id,
        title=show.title,
        description=show.description,
        status=BroadcastStatus.ENDED if over else BroadcastStatus.SCHEDULED,
        visibility=show.visibility,
        tags=list(show.tags),
        recording_enabled=show.recorded,
        scheduled_at=begins,
        started_at=begins if over else None,
        ended_at=ends if over else None,
        created_at=created,
        updated_at=ends if over else created,
        listed_at=begins,
        stream_key_version=1,
    )


def _recorded(show: _Show, broadcast: models.Broadcast, people: list[models.User]) -> Recorded:
    if broadcast.started_at is None:
        raise ValueError("this show has not been")
    starts_s = (0.0, *(until_s for _, until_s in show.turns))
    media_start_s = show.minutes * 60 - starts_s[-1]
    return Recorded(
        broadcast_id=broadcast.id,
        show_started_at=broadcast.started_at,
        media_start_s=media_start_s,
        title=show.title if media_start_s == 0 else f"{show.title}: the last words",
        description="A sample: chords in place of words.",
        turns=tuple(
            Turn(from_s, until_s, people[number].id, people[number].display_name)
            for from_s, (number, until_s) in zip(starts_s, show.turns, strict=False)
        ),
    )


def _past(session: orm.Session, broadcast: models.Broadcast, audience: list[models.User], chance: random.Random) -> int:
    """The chat, reactions and media sessions of a show that is over. Returns how many messages."""
    if broadcast.started_at is None or broadcast.ended_at is None:
        raise ValueError("this show has not been")
    lasted_s = (broadcast.ended_at - broadcast.started_at).total_seconds()
    moments = sorted(chance.uniform(5, lasted_s - 5) for _ in _CHAT)
    for moment, text in zip(moments, _CHAT, strict=True):
        person = chance.choice(audience)
        session.add(
            models.ChatMessage(
                id=new_id(),
                broadcast_id=broadcast.id,
                person_id=person.id,
                user_id=person.id,
                display_name=person.display_name,
                role=Role.MODERATOR if person is audience[0] else Role.LISTENER,
                anonymous=False,
                text=text,
                media_time=round(moment, 3),
                at=broadcast.started_at + timedelta(seconds=moment),
                deleted_at=None,
            )
        )
    for before, after in pairwise(moments):
        moment = (before + after) / 2
        session.add(
            models.Reaction(
                id=new_id(),
                broadcast_id=broadcast.id,
                emoji=chance.choice(_EMOJI),
                count=chance.randrange(1, 9),
                media_time=round(moment, 3),
                at=broadcast.started_at + timedelta(seconds=moment),
            )
        )
    for person in audience:
        came = chance.uniform(0, lasted_s / 3)
        session.add(
            models.MediaSession(
                id=new_id(),
                broadcast_id=broadcast.id,
                person_id=person.id,
                user_id=person.id,
                kind="mediasoup",
                direction="recv",
                opened_at=broadcast.started_at + timedelta(seconds=came),
                closed_at=broadcast.started_at + timedelta(seconds=chance.uniform(min(came + 60, lasted_s), lasted_s)),
                close_reason=chance.choice(("left", "ended", "lost")),
            )
        )
    return len(_CHAT)
