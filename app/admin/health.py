"""The operators' listener: is the process alive, is it ready, and what is wrong.

Never for providers or users: what it says helps an attacker.
"""

from collections.abc import Mapping

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
        } | _of_publisher(self._publisher)


def _of_publisher(publisher: Publisher) -> Body:
    """The state of the connection to Redis, and of the journal where there is one."""
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
