"""`/sessions`: the user's sessions, each with a button that ends it."""

from datetime import UTC, datetime
from html import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import config
from .logout import LogoutDelivery
from .sessions import Session
from .state import Provider
from .web import checked_form, csrf_field, current_session, expired_form, page, redirect

# In this order: Edge and Opera also contain Chrome, and Chrome contains Safari.
_BROWSERS = {
    "Edg/": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome",
    "Safari/": "Safari",
}  # fmt: skip
_SYSTEMS = {
    "Android": "Android", "iPhone": "iPhone", "iPad": "iPad", "Windows": "Windows",
    "Mac OS X": "macOS", "Linux": "Linux",
}  # fmt: skip


class Account:
    """The user's own page."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/sessions", self.show, methods=["GET"]),
            Route("/sessions", self.end, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        current = current_session(request, self._provider)
        user = config.user(current.user_id) if current else None
        if current is None or user is None:
            return redirect("/login")
        csrf = csrf_field(request)
        sessions = reversed(self._provider.sessions.of_user(user.id))
        items = "".join(
            _item(session, csrf, is_current=session.id == current.id) for session in sessions
        )
        deliveries = [d for d in self._provider.logouts.deliveries if d.user_id == user.id]
        return page(
            f"Where {user.name} is signed in",
            '<div class="bar"><p>Ending a session also signs it out of every application that '
            'it was used for.</p><form action="/login"><button>Another user</button></form></div>'
            f"<ul>{items}</ul>{_table(deliveries)}",
        )

    async def end(self, request: Request) -> Response:
        """Ends one of the user's sessions; answers after the clients' answers."""
        fields = await checked_form(request)
        current = current_session(request, self._provider)
        if fields is None or current is None:
            return expired_form()
        session = self._provider.sessions.find(fields.get("session_id"))
        if session is not None and session.user_id == current.user_id:
            deliveries = self._provider.logouts.end(session.id)
            if deliveries is not None:
                await deliveries
        return redirect("/sessions")


def device_name(user_agent: str) -> str:
    """The name of the browser for people: ``Firefox on Linux``."""
    browser = next((name for mark, name in _BROWSERS.items() if mark in user_agent), None)
    system = next((name for mark, name in _SYSTEMS.items() if mark in user_agent), None)
    if browser is None:
        return user_agent.partition("/")[0] or "Unknown device"
    return f"{browser} on {system}" if system else browser


def _item(session: Session, csrf: str, *, is_current: bool) -> str:
    device = session.last_device
    badge = '<span class="badge">this browser</span>' if is_current else ""
    used_for = ", ".join(session.client_ids) or "nothing yet"
    return (
        f"<li><div><b>{escape(device_name(device.user_agent))}</b>{badge}"
        f"<small>since {_time(session.created_at)} · {escape(device.ip)} · "
        f"used for {escape(used_for)}</small>"
        f"<small>{escape(device.user_agent)}</small></div>"
        f'<form method="post">{csrf}'
        f'<input type="hidden" name="session_id" value="{escape(session.id)}">'
        f'<button class="end">End session</button></form></li>'
    )


def _table(deliveries: list[LogoutDelivery]) -> str:
    if not deliveries:
        return ""
    rows = "".join(
        f"<tr><td>{_time(delivery.sent_at)}</td><td>{escape(delivery.client_id)}</td>"
        f"<td>{_outcome(delivery)}</td><td>{delivery.milliseconds:.0f} ms</td></tr>"
        for delivery in reversed(deliveries)
    )
    return (
        "<h2>Logout tokens sent</h2><table><thead><tr><th>When</th><th>To</th><th>Answer</th>"
        f"<th>Took</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _outcome(delivery: LogoutDelivery) -> str:
    if delivery.status is None:
        return f'<span class="bad">none: {escape(delivery.error or "")}</span>'
    # Back-Channel Logout 1.0, section 2.8: 200 is a success; some frameworks answer 204.
    kind = "good" if delivery.status in (200, 204) else "bad"
    return f'<span class="{kind}">{delivery.status}</span>'


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
