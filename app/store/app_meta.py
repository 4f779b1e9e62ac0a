"""Maintains the hash ``meta`` of each relying app: that a receiver serves it, and for which names.

Guards refuse to answer without it. It expires unless a receiver renews it, so the guards of an app
that was renamed or removed notice within a day. Each name (of an issuer, or a client id) has an
expiry of its own: receivers with different settings, as in a rolling update, renew only their own
names.
"""

import json
import math
import os
import platform
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from app.log import new_log
from app.store.app_faults import AppFaults
from app.store.command import packed
from app.store.errors import AppForbidden, RevocationRefused, fault_of
from app.store.replies import pairs_of
from app.store.session_ages import SessionAges
from app.store.topology import REDIS_SECONDS
from backchannel_logout import AppKeys
from backchannel_logout.contract.keys import VERSION
from backchannel_logout.redis.pipeline import reused_pipelines

log = new_log(__name__)

META_SECONDS = 86400
"""Longer than an outage of all receivers may last: it must not make every app answer 503."""

RENEW_SECONDS = 60.0

# Every app is checked once in this time, shorter than another receiver takes a ``meta`` that is
# not renewed for one that nobody serves (`app.store.unserved`).
_CYCLE_SECONDS = 120

_MIN_TURN = 50

# One round trip, short enough for logouts to get in between.
_MAX_URGENT = 500


@dataclass(frozen=True, slots=True)
class AppNames:
    """Every name of an app's issuers, and its client ids."""

    issuers: tuple[str, ...] = ()
    client_ids: tuple[str, ...] = ()


class AppMetas:
    """Writes ``meta``. ``apps`` maps each relying app to its ``max_session_age``, in seconds."""

    def __init__(
        self,
        apps: Mapping[str, int],
        names: Mapping[str, AppNames],
        faults: AppFaults | None = None,
        *,
        receiver: str | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._apps = dict(apps)
        self._names = dict(names)
        self._faults = faults or AppFaults()
        self._clock = clock
        self._monotonic = monotonic
        self._renew_at: dict[str, float] = {}
        self._complete: dict[str, tuple[bytes | None, bytes | None]] = {}
        """Each app's lists when they last contained all of our names."""
        self._held: set[str] = set()
        """Apps whose ``meta`` was lost and stays incomplete until their markers are restored."""
        self._may_expire = True
        self.vanished = False
        """Whether the latest check has missed a ``meta`` that this receiver had written."""
        self.ages = SessionAges(self._apps, receiver or this_process(), clock)
        self._extend_from: dict[str, str] = {}
        """What to write for apps whose markers are being extended; empty at the end."""
        self._urgent = dict.fromkeys(self._apps)
        """Apps whose ``meta`` is to be checked as soon as possible."""
        self._turns = deque(self._apps)

    @property
    def urgent(self) -> bool:
        """Whether the next check must not wait."""
        return bool(self._urgent)

    def serve(self, apps: Mapping[str, int], names: Mapping[str, AppNames]) -> None:
        """Serve these apps from now on. What is no longer renewed expires."""
        changed = {
            app
            for app in apps
            if self._apps.get(app) != apps[app] or self._names.get(app) != names.get(app)
        }
        gone = self._apps.keys() - apps.keys()
        self._apps.clear()
        self._apps.update(apps)
        self._names = dict(names)
        self._turns = deque(self._apps)
        for app in gone:
            self._urgent.pop(app, None)
            self._held.discard(app)
            self._faults.meta_written(app)
            self.ages.forget(app)
        for app in changed:
            self._renew_at.pop(app, None)
            self._complete.pop(app, None)
            self._urgent[app] = None

    def check_all_soon(self) -> None:
        """Check every app as soon as possible: Redis may have lost something."""
        self._urgent = dict.fromkeys(self._apps)

    def turn(self) -> list[str]:
        """The apps whose turn it is to be checked.

        All of them within `_CYCLE_SECONDS`, as this is called once a second: the cost of an idle
        receiver must not grow with the number of apps times receivers.
        """
        chosen = dict.fromkeys(islice(self._urgent, _MAX_URGENT))
        # What is wrong or held is looked at most often, since guards wait for it.
        chosen |= dict.fromkeys(islice(self._held, _MAX_URGENT))
        faulty = list(self._faults.of_meta)
        chosen |= dict.fromkeys(random.sample(faulty, min(len(faulty), _MIN_TURN)))
        size = max(_MIN_TURN, math.ceil(len(self._turns) / _CYCLE_SECONDS))
        chosen |= dict.fromkeys(islice(self._turns, size))
        self._turns.rotate(-size)
        return list(chosen)

    def issuers(self, app: str) -> tuple[str, ...]:
        """Every name of the app's issuers."""
        names = self._names.get(app)
        return names.issuers if names is not None else ()

    def own_age(self, app: str) -> int:
        """This receiver's ``max_session_age``, in seconds."""
        return self._apps[app]

    def extending(self, app: str, old: int | None) -> None:
        """Write that the app's markers are extended from the age ``old``, or (None) have been."""
        self._extend_from[app] = "" if old is None else str(old)
        self._urgent[app] = None
        self._renew_at.pop(app, None)

    async def write(
        self,
        server: Redis,
        apps: Sequence[str],
        holds: Callable[[str, bool], bool] = lambda _, __: False,
    ) -> bool:
        """Write each ``meta`` that is missing, differs or is due for renewal, and always one.

        That serves a Redis that came back empty, and shows the caller whether it takes writes.
        An app whose ``meta`` is refused is reported to ``faults``, and the others are written.
        ``holds`` gets an app and whether its ``meta`` has just been found missing; while it returns
        True, only ``v`` is written, and guards do not answer. True when a ``meta`` was just found
        missing. Raises the library's errors.
        """
        found = await self._read(server, apps)
        # With ``v`` alone: written at a level of durability, or held back by us.
        incomplete = {app: old for app, old in found.items() if b"max_session_age" not in old}
        lost = {app for app, old in incomplete.items() if app not in self._held or not old}
        self.vanished = any(app in self._renew_at for app in lost)
        held = [app for app in incomplete if holds(app, app in lost)]
        self._held = self._held - found.keys() | set(held)
        due = [app for app in found if app not in self._held and self._is_due(app, found[app])]
        if lost and not self._urgent:
            self.check_all_soon()
        await self._write(server, held, due, found)
        for app in due:
            self._renew_at[app] = self._monotonic() + RENEW_SECONDS
        self.checked(apps)
        return bool(lost)

    def checked(self, apps: Iterable[str]) -> None:
        """Take these apps out of the urgent ones."""
        for app in apps:
            self._urgent.pop(app, None)

    async def _read(self, server: Redis, apps: Sequence[str]) -> dict[str, Mapping[bytes, bytes]]:
        """The ``meta`` of each app that Redis lets us read."""
        answers = await _exchange(server, [packed("HGETALL", AppKeys(app).meta) for app in apps])
        found: dict[str, Mapping[bytes, bytes]] = {}
        for app, answer in zip(apps, answers, strict=True):
            if isinstance(answer, RedisError):
                self._refuse(app, answer)
            else:
                found[app] = pairs_of(answer)
        return found

    async def _write(
        self,
        server: Redis,
        held: Sequence[str],
        due: Sequence[str],
        found: Mapping[str, Mapping[bytes, bytes]],
    ) -> None:
        fields: dict[str, dict[Any, Any]] = {app: {"v": str(VERSION)} for app in held}
        fields |= {app: self._wanted(app, found[app]) for app in due}
        expiring = list(fields)
        if not fields:
            fields = {app: self._core(app, old) for app, old in [*found.items()][:1]}
        if not fields:
            return  # all of them are refused
        commands = [
            packed("HSET", AppKeys(app).meta, *chain.from_iterable(wanted.items()))
            for app, wanted in fields.items()
        ]
        commands += [packed("EXPIRE", AppKeys(app).meta, META_SECONDS) for app in expiring]
        answers = await _exchange(server, commands)
        refused = {
            app: answer
            for app, answer in zip(fields, answers, strict=False)
            if isinstance(answer, RedisError)
        }
        for app, error in refused.items():
            self._refuse(app, error)
        for answer in answers[len(fields) :]:
            self._check_expiry(answer)
        for app in found.keys() - refused.keys():
            self._faults.meta_written(app)

    def _core(self, app: str, old: Mapping[bytes, bytes]) -> dict[Any, Any]:
        age = self.ages.in_force(app, old, ages_in(old))
        return {"v": str(VERSION), "max_session_age": str(age)}

    def _wanted(self, app: str, old: Mapping[bytes, bytes]) -> dict[Any, Any]:
        """Return the complete ``meta``: our own names, and those that others have renewed."""
        names, now = self._names.get(app), self._clock()
        if names is None:
            return self._core(app, old)
        named_at = _read_stamps(_read_json(old.get(b"named_at")))
        ages = self.ages.stamped(app, old, ages_in(old))
        renewed = {
            kind: {
                **{name: at for name, at in named_at[kind].items() if at > now - META_SECONDS},
                **dict.fromkeys(own, int(now)),
            }
            for kind, own in (("issuers", names.issuers), ("client_ids", names.client_ids))
        }
        lists = {kind: _json(sorted(of_kind)) for kind, of_kind in renewed.items()}
        named = renewed | {"max_session_age": ages}
        wanted = self._core(app, old) | lists | {"named_at": _json(named)}
        if app in self._extend_from:
            wanted["extend_from"] = self._extend_from[app]
        return wanted

    def _is_due(self, app: str, old: Mapping[bytes, bytes]) -> bool:
        """Whether it is time to renew it, or something of ours is missing."""
        if (extending := self._extend_from.get(app)) is not None:
            if old.get(b"extend_from", b"") != extending.encode():
                return True
            del self._extend_from[app]
        if self._monotonic() >= self._renew_at.get(app, float("-inf")):
            return True
        core = self._core(app, old)
        if any(old.get(name.encode()) != value.encode() for name, value in core.items()):
            return True
        if (names := self._names.get(app)) is None:
            return False
        lists = old.get(b"issuers"), old.get(b"client_ids")
        if lists == self._complete.get(app):  # nearly always
            return False
        if not (_read_list(lists[0]) >= {*names.issuers}):
            return True
        if not (_read_list(lists[1]) >= {*names.client_ids}):
            return True
        self._complete[app] = lists
        return False

    def _refuse(self, app: str, error: RedisError) -> None:
        """Note that the app's ``meta`` is refused; raises a fault of the whole server."""
        fault = fault_of(error)
        if not isinstance(fault, RevocationRefused | AppForbidden):
            raise error
        self._faults.meta_refused(app, str(fault))

    def _check_expiry(self, answer: object) -> None:
        """Raise a refusal of ``EXPIRE``, but warn of a missing right: older users lack it."""
        if isinstance(answer, NoPermissionError):
            if self._may_expire:
                log.warning("redis", outcome="warned", what="meta_expiry", detail=str(answer))
            self._may_expire = False
        elif isinstance(answer, RedisError) and not isinstance(fault_of(answer), RevocationRefused):
            raise answer


async def _exchange(server: Redis, commands: Sequence[bytes]) -> list[Any]:
    """Not by redis-py's pipeline, which takes about four times as long for each command."""
    async with reused_pipelines() as pipelines:
        return await pipelines.exchange(server, commands, within=REDIS_SECONDS)


def this_process() -> str:
    """A name by which operators find this receiver."""
    return f"{platform.node()}/{os.getpid()}"


def _read_list(raw: bytes | None) -> frozenset[str]:
    """Parse a list of names; empty if it cannot be read."""
    try:
        return frozenset(name for name in json.loads(raw or b"[]") if isinstance(name, str))
    except (ValueError, TypeError, RecursionError):
        return frozenset()


def ages_in(meta: Mapping[bytes, bytes]) -> Any:
    """Which receiver has written which ``max_session_age``, as `SessionAges` takes it."""
    return _read_json(meta.get(b"named_at")).get("max_session_age")


def _read_json(raw: bytes | None) -> dict[str, Any]:
    """Parse an object; empty if it cannot be read."""
    try:
        found = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_stamps(written_at: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """When each name was last renewed; anything unreadable counts as never."""
    stamps: dict[str, dict[str, int]] = {}
    for kind in ("issuers", "client_ids"):
        of_kind = written_at.get(kind)
        stamps[kind] = {
            name: at
            for name, at in (of_kind if isinstance(of_kind, dict) else {}).items()
            if isinstance(at, int) and not isinstance(at, bool)
        }
    return stamps


def _json(value: Mapping[str, Any] | Iterable[str]) -> str:
    return json.dumps(value, separators=(",", ":"))
