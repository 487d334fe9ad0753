"""Hashing of passwords with argon2id, in worker threads of its own so that sign-ins cannot starve anything else."""

from __future__ import annotations

import base64
import secrets

import argon2
import trio
from argon2.exceptions import InvalidHashError, VerificationError

from lac.errors import UnavailableError

#: RFC 9106 section 4, second recommendation, with one lane: the machine's other cores belong to the media.
MEMORY_KIB = 64 * 1024
TIME_COST = 3
#: At about 0.15 s each, whoever comes after these would wait too long to be worth it.
MAX_WAITING = 32


class PasswordHasher:
    """`memory_kib` and `time_cost` set the price of one guess; `threads` how many hashes run at a time."""

    def __init__(self, *, memory_kib: int = MEMORY_KIB, time_cost: int = TIME_COST, threads: int = 1) -> None:
        self._argon2 = argon2.PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1)
        self._limiter = trio.CapacityLimiter(threads)
        # Well-formed, and the hash of nothing: checking against it costs as much as checking a real one.
        salt, digest = (
            base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")
            for size in (self._argon2.salt_len, self._argon2.hash_len)
        )
        self._nobody = f"$argon2id$v=19$m={memory_kib},t={time_cost},p=1${salt}${digest}"

    async def hash(self, password: str) -> str:
        self._refuse_when_overloaded()
        return await trio.to_thread.run_sync(self._argon2.hash, password, limiter=self._limiter)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether `password` made `password_hash`. None (no such account) takes as long and is False."""
        self._refuse_when_overloaded()
        return await trio.to_thread.run_sync(
            self._verify, password, password_hash or self._nobody, limiter=self._limiter
        )

    def needs_rehash(self, password_hash: str) -> bool:
        """True when the hash was made at another price than today's."""
        return self._argon2.check_needs_rehash(password_hash)

    def _verify(self, password: str, password_hash: str) -> bool:
        try:
            return self._argon2.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    def _refuse_when_overloaded(self) -> None:
        if self._limiter.statistics().tasks_waiting >= MAX_WAITING:
            raise UnavailableError("Too many people are signing in just now.", retry_after_s=5)
