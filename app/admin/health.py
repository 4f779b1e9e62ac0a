"""Whether this receiver is ready to answer logouts, and what is wrong.

For the operators' listener only: the answer would help an attacker.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from itertools import islice

from app.admin.probes import Body
from app.backchannel.parking import Parking
from app.publish.publisher import Publisher
from app.tokens.provider_keys import ProviderKeys

MAX_APPS = 100
"""How many apps with a fault the answer and the metrics name."""


@dataclass(frozen=True, slots=True)
class Health:
    """``keys`` holds each issuer's keys by its name; ``canary`` returns the state of the canary,
    ``refused_tenants`` the faults of each file that was refused. Both are part of the answer and
    do not affect readiness."""

    keys: Mapping[str, ProviderKeys]
    publisher: Publisher
    parking: Parking
    _: KW_ONLY
    stopping: Callable[[], bool]
    canary: Callable[[], Body] | None = None
    refused_tenants: Callable[[], Mapping[str, list[str]]] = dict

    def ready(self) -> bool:
        """Whether a logout can be answered with 200 here.

        A fetch of every issuer's keys was attempted, with whatever result or for half a second
        (one dead issuer must not take the others out of service), and Redis or the journal takes
        writes. False from the start of a stop, so that load balancers send no new clients.
        """
        attempted = all(keys.state().attempted for keys in self.keys.values())
        looked = self.publisher.monitor.looked
        return attempted and looked and self.publisher.takes_writes and not self.stopping()

    def body(self) -> Body:
        """The answer of `/readyz`."""
        parked = {name: tokens for name, tokens, _, _ in self.parking.depths()}
        body: Body = {
            "ready": self.ready(),
            "stopping": self.stopping(),
            "issuers": {
                name: _of_keys(keys) | {"parked": parked.get(name, 0)}
                for name, keys in self.keys.items()
            },
        } | _of_publisher(self.publisher)
        if refused := self.refused_tenants():
            body["refused_tenants"] = dict(islice(refused.items(), MAX_APPS))
        if self.canary is not None:
            body["canary"] = self.canary()
        return body


def _of_keys(keys: ProviderKeys) -> Body:
    state = keys.state()
    return {
        "attempted": state.attempted,
        "keys": state.keys,
        "skipped_keys": state.skipped,
        "age_seconds": None if state.age is None else round(state.age, 1),
        "error": state.last_error,
    }


def _of_publisher(publisher: Publisher) -> Body:
    """The state of the connection to Redis, and of the journal where there is one.

    Only where there are any, ``apps_not_writable`` has the apps that Redis takes no writes for
    while it takes others', each with one word; and ``max_session_age_conflicts`` those that
    another receiver serves with a larger age.
    """
    redis, journal = publisher.monitor.last_error, publisher.journal
    apps = publisher.monitor.app_errors
    body: Body = {
        "redis": {
            "writable": redis is None,
            "error": redis,
            "durability_error": publisher.monitor.level_error,
        },
    }
    if apps:
        body["apps_not_writable"] = dict(islice(apps.items(), MAX_APPS))
    if len(apps) > MAX_APPS:
        body["apps_not_shown"] = len(apps) - MAX_APPS
    if (emptied := publisher.recovery.emptied) is not None:
        body["redis_emptied"] = asdict(emptied)
    if conflicts := publisher.store.metas.ages.conflicts:
        body["max_session_age_conflicts"] = {
            app: conflict._asdict() for app, conflict in islice(sorted(conflicts.items()), MAX_APPS)
        }
    if journal is not None:
        body["journal"] = {
            "writable": journal.fault is None,
            "error": journal.fault,
            "waiting": journal.depth.waiting,
            "set_aside": journal.depth.set_aside,
        }
    return body
