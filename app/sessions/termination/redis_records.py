"""Endings in Redis, so that any process can tell of one, and follow one whose process died.

    bcl:v1:ending:<id>         hash: how it began; then each fact, set once (HSETNX)
    bcl:v1:ending:<id>:lease   who follows it now; it runs out by itself
    bcl:v1:ending:user:<h>     string: the id of the newest ending of all sessions of a user
    bcl:v1:ending:others:<h>   string: the sessions that a user ended last with one request, as JSON
    bcl:v1:endings             set: the ids of those of one session that are not over
    bcl:v1:ending:open-users   set: the same, of all sessions of a user. An older release removes
                               from the first set what it cannot read, and knows nothing of this one

Facts are set once, so two followers, which a lease that ran out can bring about, can not take back
what the other has seen. The id is in the set before the hash is there: a crash in between leaves
an id without a hash, which is thrown away, and never an ending that nobody follows.
"""

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from app.history.app_reader import AppReader, Unreadable, required
from app.sessions.termination.record import DELIVERY_PREFIX, AppDelivery, Problem, Termination
from backchannel_logout.contract.keys import VERSION, digest

PREFIX = f"bcl:v{VERSION}:ending:"
OPEN = f"bcl:v{VERSION}:endings"
OPEN_USERS = PREFIX + "open-users"

# For whoever asks later how it went; as long as the apps' streams tell of it.
LIFE_SECONDS = 7 * 86400

LEASE_SECONDS = 10.0

# KEYS[1] the hash; ARGV[1] its life in seconds; ARGV[2] since when the session is known, in epoch
# seconds; then names and values.
# One that is under way is left alone: 0. So is one that was confirmed since: it was this session's.
# Another that is over makes room, by a life that has ended: the receiver has no right to DEL.
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

# KEYS[1] the lease; ARGV[1] who; ARGV[2] its life in milliseconds, 0 to give it back.
_KEEP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""


class TerminationRecords:
    """Every method raises `app.history.Unreadable` when Redis does not do it. ``me`` is the name
    of this process among those that follow."""

    def __init__(self, reading: AppReader, me: str) -> None:
        self._reading = reading
        self._me = me

    async def create(self, ending: Termination, known_at: float) -> bool:
        """Note a new one, and take it. False: the same session's ending is under way already, or
        was confirmed after ``known_at``, when the session was still there."""
        open_ = _open(ending.of_user)
        await self._ask(open_, "SADD", open_, ending.id)
        parts = [part for pair in ending.to_fields().items() for part in pair]
        key = _key(ending.id)
        life, known = LIFE_SECONDS, f"{known_at:.3f}"
        if not await self._ask(key, "EVAL", _CREATE, 1, key, life, known, *parts):
            return False
        # It is noted. Where only this fails, it is followed all the same, and taken later.
        with contextlib.suppress(Unreadable):
            await self.take(ending.id)
        return True

    async def note_newest(self, ending: Termination) -> None:
        """It is the newest of all sessions of its user."""
        key = _newest(ending.issuer, ending.user)
        await self._ask(key, "SET", key, ending.id, "EX", LIFE_SECONDS)

    async def newest_of(self, issuer: str, user: str) -> Termination | None:
        """The newest ending of all sessions of the user; None where there is none."""
        key = _newest(issuer, user)
        found = await self._ask(key, "GET", key)
        return await self.load(found.decode()) if found else None

    async def note_others(self, issuer: str, user: str, sessions: Sequence[str]) -> None:
        """These sessions of the user's end by one request."""
        key = _others(issuer, user)
        await self._ask(key, "SET", key, json.dumps(sessions), "EX", LIFE_SECONDS)

    async def others_of(self, issuer: str, user: str) -> list[str]:
        """The sessions that `note_others` was last told of."""
        key = _others(issuer, user)
        found = await self._ask(key, "GET", key)
        return [str(one) for one in json.loads(found)] if found else []

    async def load(self, ending_id: str) -> Termination | None:
        """What is known of it; None where there is none."""
        key = _key(ending_id)
        found = await self._ask(key, "HGETALL", key)
        return Termination.from_fields(found) if found else None

    async def note(self, ending_id: str, **facts: str | float) -> None:
        """Facts, each of which is kept as it was said first."""
        key = _key(ending_id)
        commands = [
            ("HSETNX", key, name, value if isinstance(value, str) else repr(value))
            for name, value in facts.items()
        ]
        # Where Redis has lost the rest of it meanwhile, this must not stay for ever.
        expire = ("EXPIRE", key, LIFE_SECONDS)
        for answer in await self._reading.of_key(key, [*commands, expire]):
            required(answer)

    async def note_told(self, ending_id: str, app: str, telling: AppDelivery) -> None:
        """How an app was told."""
        value = json.dumps(dataclasses.asdict(telling))
        await self.note(ending_id, **{DELIVERY_PREFIX + app: value})

    async def note_trouble(self, ending_id: str, trouble: Problem | None) -> None:
        """What is in the way now; None: nothing any more."""
        key = _key(ending_id)
        if trouble is None:
            await self._ask(key, "HDEL", key, "trouble")
        else:
            value = json.dumps(dataclasses.asdict(trouble))
            await self._ask(key, "HSET", key, "trouble", value)

    async def with_refresh_tokens(self, ending_id: str) -> None:
        """Its refresh tokens are to end, too."""
        key = _key(ending_id)
        await self._ask(key, "HSET", key, "refresh_tokens", "true")

    # -- who follows it ---------------------------------------------------------------------

    async def open(self, *, of_user: bool) -> list[str]:
        """The ids of all that are not over: those of all sessions of a user, or of one session."""
        key = _open(of_user)
        return [one.decode() for one in await self._ask(key, "SMEMBERS", key)]

    async def take(self, ending_id: str) -> bool:
        """Be the one that follows it. False: somebody does."""
        key = _lease(ending_id)
        ms = int(LEASE_SECONDS * 1000)
        return bool(await self._ask(key, "SET", key, self._me, "NX", "PX", ms))

    async def keep(self, ending_id: str) -> bool:
        """Go on following it. False: the lease has run out."""
        return bool(await self._keep(ending_id, int(LEASE_SECONDS * 1000)))

    async def leave(self, ending_id: str) -> None:
        """Let somebody else follow it."""
        await self._keep(ending_id, 0)

    async def close(self, ending_id: str, *, of_user: bool) -> None:
        """It is over, or there is no such ending among these that are open."""
        key = _open(of_user)
        await self._ask(key, "SREM", key, ending_id)
        await self.leave(ending_id)

    async def _keep(self, ending_id: str, ms: int) -> Any:
        key = _lease(ending_id)
        return await self._ask(key, "EVAL", _KEEP, 1, key, self._me, ms)

    async def _ask(self, key: str, *command: str | int) -> Any:
        (answer,) = await self._reading.of_key(key, [command])
        return required(answer)


def _open(of_user: bool) -> str:
    return OPEN_USERS if of_user else OPEN


def _key(ending_id: str) -> str:
    return PREFIX + ending_id


def _newest(issuer: str, user: str) -> str:
    return f"{PREFIX}user:{digest(issuer, user)}"


def _others(issuer: str, user: str) -> str:
    return f"{PREFIX}others:{digest(issuer, user)}"


def _lease(ending_id: str) -> str:
    return f"{PREFIX}{ending_id}:lease"
