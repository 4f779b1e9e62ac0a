"""Sessions and their endings as JSON values, for the API and whatever else shows them."""

import contextlib
import dataclasses
from typing import Any

from app.history import DeliveredEvent, History, Unreadable, as_json
from app.sessions.lifecycle import ends_at, state
from app.sessions.provider_session import ProviderSession
from app.sessions.termination import record
from app.sessions.termination.record import Phase, Termination
from backchannel_logout import AppStatus

Json = dict[str, Any]

# Where an app stands so, it will not let the session in again; see `AppStatus`.
_PROVEN = (AppStatus.TORN_DOWN, AppStatus.SEEN, AppStatus.ASKS)


def session_json(session: ProviderSession, now: float) -> Json:
    """What the provider says, and what follows for ``now``."""
    found = dataclasses.asdict(session)
    found["user"] = found.pop("user_id")
    return found | {"state": state(session, now).value, "ends_at": ends_at(session)}


async def termination_json(ending: Termination, history: History, confirm_within: float) -> Json:
    """How far it is, with each app's proof as of now; ``proven`` when all of them have acted."""
    apps = [await _app_json(ending, app, history) for app in ending.apps]
    found = record.as_json(ending, confirm_within)
    if ending.step is Phase.CONFIRMED and apps and all(one["proven"] for one in apps):
        found["state"] = "proven"
    return found | {"apps": apps}


async def _app_json(ending: Termination, app: str, history: History) -> Json:
    telling = ending.told.get(app)
    if telling is None:
        return {"app": app, "state": "waiting", "proven": False}
    told = DeliveredEvent(app=app, id=telling.event, event=None)
    with contextlib.suppress(Unreadable):  # what is known without Redis is said all the same
        told = await history.proven(told)
    proof = told.proof
    return {
        "app": app,
        "state": "written",
        "event": telling.event,
        "source": telling.source,
        "cutoff": telling.cutoff,
        "received_at": telling.at,
        "proof": as_json(proof),
        "dead_letters": as_json(told.dead_letters),
        "proven": proof is not None and proof.status in _PROVEN,
    }
