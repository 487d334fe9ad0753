"""Queries on people, follows and reminders: a session in, plain values out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import orm

from lac.db import models
from lac.db.pages import earlier_than, page_of
from lac.paging import Page, Position

FOLLOWERS = "followers"
FOLLOWING = "following"


@dataclass(frozen=True, slots=True)
class Profile:
    """What everybody may know of an account."""

    id: str
    display_name: str
    created_at: datetime
    followers: int
    following: int
    #: Whether the viewer follows this person.
    followed: bool


@dataclass(frozen=True, slots=True)
class Followed:
    id: str
    display_name: str
    since: datetime


def find_profile(session: orm.Session, user_id: str, *, viewer_id: str | None) -> Profile | None:
    row = session.get(models.User, user_id)
    if row is None:
        return None
    follow = models.Follow

    def count(column: orm.InstrumentedAttribute[str]) -> int:
        return session.scalar(sa.select(sa.func.count()).select_from(follow).where(column == user_id)) or 0

    followed = viewer_id is not None and session.get(follow, (viewer_id, user_id)) is not None
    return Profile(
        id=row.id,
        display_name=row.display_name,
        created_at=row.created_at,
        followers=count(follow.followed_id),
        following=count(follow.follower_id),
        followed=followed,
    )


def follow(session: orm.Session, follower_id: str, followed_id: str, at: datetime) -> bool:
    """False when either account does not exist. Following twice changes nothing."""
    ids = (follower_id, followed_id)
    users = session.scalars(
        sa.select(models.User.id).where(models.User.id.in_(ids)).with_for_update(key_share=True, read=True)
    ).all()
    if set(users) != set(ids):
        return False
    _add_once(session, models.Follow(follower_id=follower_id, followed_id=followed_id, created_at=at), ids)
    return True


def unfollow(session: orm.Session, follower_id: str, followed_id: str) -> None:
    row = models.Follow
    session.execute(sa.delete(row).where(row.follower_id == follower_id, row.followed_id == followed_id))


def list_follows(
    session: orm.Session, user_id: str, which: str, *, limit: int, after: Position | None = None
) -> Page[Followed]:
    """`FOLLOWERS` of this person or whom they are `FOLLOWING`, the latest first."""
    row = models.Follow
    mine, other = row.followed_id, row.follower_id
    if which == FOLLOWING:
        mine, other = other, mine
    query = sa.select(other, models.User.display_name, row.created_at).join(models.User, models.User.id == other)
    query = query.where(mine == user_id)
    if after is not None:
        query = query.where(earlier_than(after, row.created_at, other))
    found = session.execute(query.order_by(row.created_at.desc(), other.desc()).limit(limit + 1)).all()
    return page_of(found, limit, lambda line: Followed(*line), lambda item: Position(which, item.since, item.id))


def add_reminder(session: orm.Session, broadcast_id: str, user_id: str, at: datetime) -> None:
    """Once more changes nothing."""
    _add_once(
        session, models.Reminder(broadcast_id=broadcast_id, user_id=user_id, created_at=at), (broadcast_id, user_id)
    )


def remove_reminder(session: orm.Session, broadcast_id: str, user_id: str) -> None:
    row = models.Reminder
    session.execute(sa.delete(row).where(row.broadcast_id == broadcast_id, row.user_id == user_id))


def _add_once(session: orm.Session, row: models.Follow | models.Reminder, key: tuple[str, str]) -> None:
    """Two requests at once are no error either."""
    try:
        with session.begin_nested():
            session.add(row)
    except sa.exc.IntegrityError:
        if session.get(type(row), key) is None:
            raise
