"""Maintains the hash ``meta`` of each relying app: that a receiver serves it, and for which names.

Guards refuse to answer without it. It expires unless a receiver renews it, so the guards of an app
that was renamed or removed notice within a day. Each name (of an issuer, or a client id) has an
expiry of its own: receivers with different settings, as in a rolling update, renew only their own
names.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from app.log import new_log
from app.store.errors import RevocationRefused, fault_of
from backchannel_logout import AppKeys
from backchannel_logout.contract.keys import VERSION

log = new_log(__name__)

META_SECONDS = 86400
"""Longer than an outage of all receivers may last: it must not make every app answer 503."""

RENEW_SECONDS = 60.0


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
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._apps = dict(apps)
        self._names = dict(names)
        self._clock = clock
        self._monotonic = monotonic
        self._renew_at: dict[str, float] = {}
        self._complete: dict[str, tuple[bytes | None, bytes | None]] = {}
        """Each app's lists when they last contained all of our names."""
        self._held: set[str] = set()
        """Apps whose ``meta`` was lost and stays incomplete until their markers are restored."""
        self._refused: set[str] = set()
        """Apps whose refused ``meta`` has been logged."""
        self._may_expire = True

    async def write(
        self,
        server: Redis,
        apps: Sequence[str],
        holds: Callable[[str, bool], bool] = lambda _, __: False,
    ) -> bool:
        """Write each ``meta`` that is missing, differs or is due for renewal, and always one.

        That serves a Redis that came back empty, and shows the caller whether it takes writes.
        ``holds`` gets an app and whether its ``meta`` has just been found missing; while it returns
        True, only ``v`` is written, and guards do not answer. True when a ``meta`` was just found
        missing. Raises the library's errors.
        """
        pipeline = server.pipeline(transaction=False)
        for app in apps:
            pipeline.hgetall(AppKeys(app).meta)
        found = dict(zip(apps, await pipeline.execute(raise_on_error=False), strict=True))
        for app in self._find_refused(found):
            del found[app]
        # With ``v`` alone: written at a level of durability, or held back by us.
        incomplete = {app: old for app, old in found.items() if b"max_session_age" not in old}
        lost = {app for app, old in incomplete.items() if app not in self._held or not old}
        held = [app for app in incomplete if holds(app, app in lost)]
        self._held = self._held - found.keys() | set(held)
        due = [app for app in found if app not in self._held and self._is_due(app, found[app])]
        pipeline = server.pipeline(transaction=False)
        if held or due:
            for app in held:
                pipeline.hset(AppKeys(app).meta, mapping={"v": str(VERSION)})
            for app in due:
                pipeline.hset(AppKeys(app).meta, mapping=self._wanted(app, found[app]))
            for app in (*held, *due):
                pipeline.expire(AppKeys(app).meta, META_SECONDS)
        else:
            for app in [*found, *apps][:1]:
                pipeline.hset(AppKeys(app).meta, mapping=self._core(app))
        answers = await pipeline.execute(raise_on_error=False)
        self._check_answers(answers, len(held) + len(due))
        for app in due:
            self._renew_at[app] = self._monotonic() + RENEW_SECONDS
        return bool(lost)

    def _core(self, app: str) -> dict[Any, Any]:
        return {"v": str(VERSION), "max_session_age": str(self._apps[app])}

    def _wanted(self, app: str, old: Mapping[bytes, bytes]) -> dict[Any, Any]:
        """Return the complete ``meta``: our own names, and those that others have renewed."""
        names, now = self._names.get(app), self._clock()
        if names is None:
            return self._core(app)
        named_at = _read_stamps(old.get(b"named_at"))
        renewed = {
            kind: {
                **{name: at for name, at in named_at[kind].items() if at > now - META_SECONDS},
                **dict.fromkeys(own, int(now)),
            }
            for kind, own in (("issuers", names.issuers), ("client_ids", names.client_ids))
        }
        lists = {kind: _json(sorted(of_kind)) for kind, of_kind in renewed.items()}
        return self._core(app) | lists | {"named_at": _json(renewed)}

    def _is_due(self, app: str, old: Mapping[bytes, bytes]) -> bool:
        """Whether it is time to renew it, or something of ours is missing."""
        if self._monotonic() >= self._renew_at.get(app, float("-inf")):
            return True
        if any(old.get(name.encode()) != value.encode() for name, value in self._core(app).items()):
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

    def _find_refused(self, found: Mapping[str, Any]) -> set[str]:
        """Return the apps whose own ``meta`` Redis refuses; the others can be written."""
        refused = set()
        for app, old in found.items():
            if isinstance(old, RedisError):
                if not isinstance(fault_of(old), RevocationRefused):
                    raise old
                refused.add(app)
                if app not in self._refused:
                    log.error("redis", outcome="meta_refused", app=app, error=str(fault_of(old)))
        self._refused = self._refused - found.keys() | refused
        return refused

    def _check_answers(self, answers: Sequence[Any], written: int) -> None:
        """Raise the first refusal, except of ``EXPIRE``: older users of Redis lack that right."""
        for index, answer in enumerate(answers):
            if not isinstance(answer, Exception):
                continue
            if written and index >= written and isinstance(answer, NoPermissionError):
                if self._may_expire:
                    log.warning("redis", outcome="warned", what="meta_expiry", detail=str(answer))
                self._may_expire = False
            else:
                raise answer


def _read_list(raw: bytes | None) -> frozenset[str]:
    """Parse a list of names; empty if it cannot be read."""
    try:
        return frozenset(name for name in json.loads(raw or b"[]") if isinstance(name, str))
    except (ValueError, TypeError, RecursionError):
        return frozenset()


def _read_stamps(raw: bytes | None) -> dict[str, dict[str, int]]:
    """Parse when each name was last renewed; anything unreadable counts as never."""
    try:
        found = json.loads(raw or b"{}")
        return {
            kind: {
                name: at
                for name, at in found.get(kind, {}).items()
                if isinstance(at, int) and not isinstance(at, bool)
            }
            for kind in ("issuers", "client_ids")
        }
    except (ValueError, AttributeError, RecursionError):
        return {"issuers": {}, "client_ids": {}}


def _json(value: Mapping[str, Any] | Iterable[str]) -> str:
    return json.dumps(value, separators=(",", ":"))
