"""Terminations in Redis: any process can report on one, and follow one whose process died.

    bcl:v1:ending:<id>         hash: how it began; then each fact, set once (HSETNX)
    bcl:v1:ending:<id>:lease   the process that follows it; expires unless it is renewed
    bcl:v1:ending:user:<h>     string: the id of the newest termination of all sessions of a user
    bcl:v1:ending:others:<h>   string: the sessions that a user last ended with one request, as JSON
    bcl:v1:endings             set: the ids of the open terminations of one session
    bcl:v1:ending:open-users   set: the ids of the open terminations of all sessions of a user. Its
                               own key, because older releases remove what they cannot read from the
                               other set

Facts are set once, so when a lease expires and two followers work at the same time, neither undoes
what the other recorded. The id is added to the set before the hash exists: a crash in between
leaves an id without a hash, which is dropped, and never a termination that no process follows.
"""

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from app.history.app_reader import AppReader, Unreadable, required
from app.sessions.termination.termination import DELIVERY_PREFIX, AppDelivery, Problem, Termination
from backchannel_logout.contract.keys import VERSION, digest

PREFIX = f"bcl:v{VERSION}:ending:"
OPEN = f"bcl:v{VERSION}:endings"
OPEN_USERS = PREFIX + "open-users"

# Results stay readable for about as long as the apps' streams hold the events.
LIFE_SECONDS = 7 * 86400

LEASE_SECONDS = 10.0

# KEYS[1] the hash; ARGV[1] its life in seconds; ARGV[2] since when the session is known, in epoch
# seconds; then names and values.
# Returns 0 for an open termination, and for one that was confirmed since: it was this session's.
# An earlier one makes room by EXPIRE 0: the receiver has no right to DEL.
_CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  local outcome = redis.call('HGET', KEYS[1], 'outcome')
  if not outcome then return 0 end
  local over_at = tonumber(redis.call('HGET', KEYS[1], 'over_at') or '0')
  if outcome == 'confirmed' and over_at >= tonumber(ARGV[2]) then return 0 end
end
redis.call('EXPIRE', KEYS[1], 0)
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""

# KEYS[1] the lease; ARGV[1] the process; ARGV[2] its life in milliseconds, 0 to release it.
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""


class TerminationRecords:
    """``process`` is this process's name in leases. Every method raises `Unreadable` when Redis
    does not carry it out."""

    def __init__(self, reader: AppReader, process: str) -> None:
        self._reader = reader
        self._process = process

    async def create(self, termination: Termination, known_at: float) -> bool:
        """Record a new one and take its lease.

        False: the session's termination is open already, or was confirmed after ``known_at``, when
        the session still existed.
        """
        open_set = _open_set(termination.of_user)
        await self._run(open_set, "SADD", open_set, termination.id)
        fields = [part for pair in termination.to_fields().items() for part in pair]
        key = _key(termination.id)
        life, known = LIFE_SECONDS, f"{known_at:.3f}"
        if not await self._run(key, "EVAL", _CREATE, 1, key, life, known, *fields):
            return False
        # It is recorded. If only the lease fails, it is followed anyway, and leased later.
        with contextlib.suppress(Unreadable):
            await self.acquire(termination.id)
        return True

    async def set_newest(self, termination: Termination) -> None:
        """Make it the newest termination of all sessions of its user."""
        key = _newest_key(termination.issuer, termination.user)
        await self._run(key, "SET", key, termination.id, "EX", LIFE_SECONDS)

    async def newest_of(self, issuer: str, user: str) -> Termination | None:
        """The newest termination of all sessions of the user."""
        key = _newest_key(issuer, user)
        newest = await self._run(key, "GET", key)
        return await self.load(newest.decode()) if newest else None

    async def set_others(self, issuer: str, user: str, sessions: Sequence[str]) -> None:
        """Record the sessions that the user ended with one request, for `others_of`."""
        key = _others_key(issuer, user)
        await self._run(key, "SET", key, json.dumps(sessions), "EX", LIFE_SECONDS)

    async def others_of(self, issuer: str, user: str) -> list[str]:
        """The sessions of the last `set_others`."""
        key = _others_key(issuer, user)
        sessions = await self._run(key, "GET", key)
        return [str(session) for session in json.loads(sessions)] if sessions else []

    async def load(self, termination_id: str) -> Termination | None:
        """The termination as recorded; None when there is none."""
        key = _key(termination_id)
        fields = await self._run(key, "HGETALL", key)
        return Termination.from_fields(fields) if fields else None

    async def add(self, termination_id: str, **facts: str | float) -> None:
        """Record facts; a fact that is already recorded stays as it is."""
        key = _key(termination_id)
        commands = [
            ("HSETNX", key, name, value if isinstance(value, str) else repr(value))
            for name, value in facts.items()
        ]
        # If Redis has lost the rest of the hash, this part must not stay forever.
        expire = ("EXPIRE", key, LIFE_SECONDS)
        for response in await self._reader.query_key(key, [*commands, expire]):
            required(response)

    async def add_delivery(self, termination_id: str, app: str, delivery: AppDelivery) -> None:
        """Record an app's delivery."""
        value = json.dumps(dataclasses.asdict(delivery))
        await self.add(termination_id, **{DELIVERY_PREFIX + app: value})

    async def set_problem(self, termination_id: str, problem: Problem | None) -> None:
        """Record the current problem; None clears it."""
        key = _key(termination_id)
        if problem is None:
            await self._run(key, "HDEL", key, "trouble")
        else:
            value = json.dumps(dataclasses.asdict(problem))
            await self._run(key, "HSET", key, "trouble", value)

    async def set_refresh_tokens(self, termination_id: str) -> None:
        """Record that its refresh tokens end too."""
        key = _key(termination_id)
        await self._run(key, "HSET", key, "refresh_tokens", "true")

    # -- leases ---------------------------------------------------------------------------

    async def open_ids(self, *, of_user: bool) -> list[str]:
        """The ids of all that are not over: those of a user, or of one session."""
        key = _open_set(of_user)
        return [member.decode() for member in await self._run(key, "SMEMBERS", key)]

    async def acquire(self, termination_id: str) -> bool:
        """Become the process that follows it. False: another process holds the lease."""
        key = _lease_key(termination_id)
        ms = int(LEASE_SECONDS * 1000)
        return bool(await self._run(key, "SET", key, self._process, "NX", "PX", ms))

    async def renew(self, termination_id: str) -> bool:
        """Extend the lease. False: it has expired."""
        return bool(await self._expire_lease(termination_id, int(LEASE_SECONDS * 1000)))

    async def release(self, termination_id: str) -> None:
        """Let another process follow it."""
        await self._expire_lease(termination_id, 0)

    async def close(self, termination_id: str, *, of_user: bool) -> None:
        """Remove it from the open ones."""
        key = _open_set(of_user)
        await self._run(key, "SREM", key, termination_id)
        await self.release(termination_id)

    async def _expire_lease(self, termination_id: str, ms: int) -> Any:
        key = _lease_key(termination_id)
        return await self._run(key, "EVAL", _RENEW, 1, key, self._process, ms)

    async def _run(self, key: str, *command: str | int) -> Any:
        (response,) = await self._reader.query_key(key, [command])
        return required(response)


def _open_set(of_user: bool) -> str:
    return OPEN_USERS if of_user else OPEN


def _key(termination_id: str) -> str:
    return PREFIX + termination_id


def _newest_key(issuer: str, user: str) -> str:
    return f"{PREFIX}user:{digest(issuer, user)}"


def _others_key(issuer: str, user: str) -> str:
    return f"{PREFIX}others:{digest(issuer, user)}"


def _lease_key(termination_id: str) -> str:
    return f"{PREFIX}{termination_id}:lease"
