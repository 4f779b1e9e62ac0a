"""Sessions and their terminations as JSON values, for the API and the console."""

import contextlib
import dataclasses
from typing import Any

from app.history import DeliveredEvent, History, Unreadable, as_json
from app.sessions.lifecycle import ends_at, state
from app.sessions.provider_session import ProviderSession
from app.sessions.termination import report
from app.sessions.termination.record import Phase, Termination
from backchannel_logout import AppStatus

Json = dict[str, Any]

# An app with one of these will not accept the session again; see `AppStatus`.
_PROVEN = (AppStatus.TORN_DOWN, AppStatus.SEEN, AppStatus.ASKS)


def session_json(session: ProviderSession, now: float) -> Json:
    """The session as the provider reports it, and its state at ``now``."""
    members = dataclasses.asdict(session)
    members["user"] = members.pop("user_id")
    return members | {"state": state(session, now).value, "ends_at": ends_at(session)}


async def termination_json(
    termination: Termination, history: History, confirm_within: float
) -> Json:
    """The termination with each app's current proof; ``proven`` once every app has acted."""
    apps = [await _app_json(termination, app, history) for app in termination.apps]
    members = report.as_json(termination, confirm_within)
    if termination.phase is Phase.CONFIRMED and apps and all(app["proven"] for app in apps):
        members["state"] = "proven"
    return members | {"apps": apps}


async def _app_json(termination: Termination, app: str, history: History) -> Json:
    delivery = termination.deliveries.get(app)
    if delivery is None:
        return {"app": app, "state": "waiting", "proven": False}
    delivered = DeliveredEvent(app=app, id=delivery.event, event=None)
    with contextlib.suppress(Unreadable):  # without the proof, the rest is still known
        delivered = await history.with_proof(delivered)
    proof = delivered.proof
    return {
        "app": app,
        "state": "written",
        "event": delivery.event,
        "source": delivery.source,
        "cutoff": delivery.cutoff,
        "received_at": delivery.at,
        "proof": as_json(proof),
        "dead_letters": as_json(delivered.dead_letters),
        "proven": proof is not None and proof.status in _PROVEN,
    }
