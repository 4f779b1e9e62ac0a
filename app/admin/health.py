"""The operators' listener: is the process alive, is it ready, and what is wrong.

Never for providers or users: what it says helps an attacker.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from app.admin.probes import Body, Probes
from app.backchannel.parking import Parking
from app.publish.publisher import Publisher
from app.tokens.provider_keys import ProviderKeys


class Health(Probes):
    """`/livez` and `/readyz`. ``keys`` holds each issuer's key cache by its name."""

    def __init__(
        self, keys: Mapping[str, ProviderKeys], publisher: Publisher, parking: Parking
    ) -> None:
        super().__init__()
        self._keys = keys
        self._publisher = publisher
        self._parking = parking

    async def now(self) -> Body:
        body = self.body()
        if self.canary is not None:
            body["canary"] = self.canary()
        return body

    def body(self) -> Body:
        """What `/readyz` says. Ready: a logout can be answered with 200 here.

        Every issuer's keys have been asked for, with whatever result (one dead issuer must
        not take the others out of service), and Redis or the journal takes writes. Not ready from
        the moment of a stop on, so that nobody new is sent here.
        """
        issuers = {}
        parked = {name: tokens for name, tokens, _, _ in self._parking.depths()}
        for name, keys in self._keys.items():
            state = keys.state()
            issuers[name] = {
                "attempted": state.attempted,
                "keys": state.keys,
                "skipped_keys": state.skipped,
                "age_seconds": None if state.age is None else round(state.age, 1),
                "error": state.last_error,
                "parked": parked.get(name, 0),
            }
        asked = all(issuer["attempted"] for issuer in issuers.values())
        asked = asked and self._publisher.watch.looked
        durable = self._publisher.takes_writes
        stopping = self.stopping()
        return {
            "ready": asked and durable and not stopping,
            "stopping": stopping,
            "issuers": issuers,
        } | of_publisher(self._publisher)


def of_publisher(publisher: Publisher) -> Body:
    """How one process's way to Redis is, and its journal where it has one."""
    redis, journal = publisher.watch.last_error, publisher.journal
    body: Body = {
        "redis": {
            "writable": redis is None,
            "error": redis,
            "durability_error": publisher.watch.level_error,
        },
    }
    if journal is not None:
        body["journal"] = {
            "writable": journal.fault is None,
            "error": journal.fault,
            "waiting": journal.depth.waiting,
            "set_aside": journal.depth.set_aside,
        }
    return body


class HealthOfAll(Probes):
    """`/livez` and `/readyz` of several workers; ``states`` asks each, and None is no answer."""

    def __init__(self, states: Callable[[], Awaitable[Sequence[Body | None]]]) -> None:
        super().__init__()
        self._states = states
        self.publisher: Publisher | None = None
        """The parent's own, where it has one: what the API writes goes there."""

    async def now(self) -> Body:
        own = None if self.publisher is None else of_publisher(self.publisher)
        body = merged(await self._states(), own)
        stopping = self.stopping()
        body |= {"stopping": stopping, "ready": body["ready"] and not stopping}
        if self.canary is not None:
            body["canary"] = self.canary()
        return body


def merged(states: Sequence[Body | None], own: Body | None = None) -> Body:
    """One body for all workers: ready only if each of them is, and the first error of any.

    Of an issuer's keys, what the worker with the oldest has. Journal entries and parked tokens are
    summed up. ``own`` is `of_publisher` of the parent: what is wrong there is shown, and takes
    nobody out of service, for no provider's logout goes there.
    """
    answers = [state for state in states if state is not None]
    writers = [*answers, *([own] if own is not None else [])]
    body: Body = {
        "ready": len(answers) == len(states) and all(one["ready"] for one in answers),
        "stopping": any(one["stopping"] for one in answers),
        "workers": {"all": len(states), "answering": len(answers)},
        "redis": _all_of([one["redis"] for one in writers]),
        "issuers": {
            name: _oldest([one["issuers"][name] for one in answers])
            for name in (answers[0]["issuers"] if answers else ())
        },
    }
    if journals := [one["journal"] for one in writers if "journal" in one]:
        body["journal"] = _all_of(journals)
    return body


def _all_of(parts: Sequence[Body]) -> Body:
    """True where all say so, the first error, the sum of what waits."""
    whole: Body = {"writable": bool(parts) and all(part["writable"] for part in parts)}
    for name in parts[0] if parts else ():
        values = [part[name] for part in parts]
        if name.endswith("error"):
            whole[name] = next((value for value in values if value is not None), None)
        elif name != "writable":
            whole[name] = sum(values)
    return whole


def _oldest(parts: Sequence[Body]) -> Body:
    """The part of the worker that is worst off: not asked yet, without keys, or with old ones."""

    def worst(part: Body) -> tuple[bool, bool, float]:
        age = part["age_seconds"]
        return not part["attempted"], age is None, age or 0.0

    return max(parts, key=worst) | {"parked": sum(part["parked"] for part in parts)}
