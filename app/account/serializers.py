"""Sessions and their ends, as JSON for their user: Auth0's names, whichever provider it is. Pure.

Nothing of the receiver's inside is shown: neither the apps' names nor why a provider hesitates.
"""

from datetime import UTC, datetime
from typing import Any

from app.account.devices import described
from app.sessions.provider_session import Device, ProviderSession
from app.sessions.termination.record import Phase, Termination

Json = dict[str, Any]

# When all apps have been told, some only look when they are used: waiting longer shows nothing.
SETTLED_SECONDS = 10.0


def shown_session(session: ProviderSession, *, current: bool) -> Json:
    """One session. Times are RFC 3339 in UTC; what the provider does not say is null."""
    seen = session.last_seen_at
    return {
        "id": session.id,
        "user_id": session.user_id,
        "created_at": _time(session.created_at),
        "updated_at": _time(seen if seen is not None else session.authenticated_at),
        "authenticated_at": _time(session.authenticated_at),
        "idle_expires_at": _time(session.idle_expires_at),
        "expires_at": _time(session.expires_at),
        "last_interacted_at": _time(seen),
        "device": _device(session.first_device, session.last_device),
        "clients": [{"client_id": one} for one in session.clients],
        "current": current,
    }


def shown_progress(ending: Termination, shown: Json, now: float) -> Json:
    """How far the end of a session is. ``shown`` is the operators' view of it, with each app's
    proof; ``final``: nothing more will be known soon."""
    state = str(shown["state"])
    settled = ending.over_at is not None and now - ending.over_at >= SETTLED_SECONDS
    return {
        "id": ending.session,
        "state": state,
        "gone": ending.gone_at is not None,
        "final": state == "proven" or ending.phase is Phase.UNCONFIRMED or settled,
        "apps": {
            "total": len(ending.apps),
            "told": len(ending.deliveries),
            "let_go": sum(one["proven"] for one in shown["apps"]),
        },
    }


def _device(first: Device, last: Device) -> Json:
    agent = last.user_agent or first.user_agent
    browser, system, kind = described(agent) if agent else (None, None, "unknown")
    return {
        "initial_user_agent": first.user_agent,
        "initial_ip": first.ip,
        "last_user_agent": last.user_agent,
        "last_ip": last.ip,
        "browser": browser,
        "os": system,
        "kind": kind,
    }


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
