"""An administrator's act, as revocations: one for each app concerned. Pure.

They go the way of all others: the same markers, the same events, with the source `SOURCE`. Who did
it, and why, is in the audit alone: an app's stream is for the app to read. The ``jti`` of the
events, which the audit has, too, leads from one to the other.
"""

import secrets
from collections.abc import Sequence

from app.config.issuers import IssuerSettings
from app.revocation import Once, Revocation, revoke
from backchannel_logout import EventKind

SOURCE = "admin"

# An act is given to Redis at once, and again at most for as long as somebody waits for it.
_JTI_SECONDS = 600


def new_jti() -> str:
    """The ``jti`` of an act: nobody else's."""
    return f"{SOURCE}-{secrets.token_hex(8)}"


def revocations(
    issuer: IssuerSettings,
    apps: Sequence[str],
    *,
    jti: str,
    now: float,
    since: float | None = None,
    sid: str | None = None,
    sub: str | None = None,
    source: str = SOURCE,
) -> list[Revocation]:
    """End what logged in up to ``since``, which is ``now`` unless it is said (epoch seconds): the
    session ``sid``, else all sessions of the user ``sub``, else everything of the issuer. One for
    each app, in their order.

    Raises ``ValueError`` for an app that is none of the issuer's.
    """
    kind = EventKind.SESSION if sid else EventKind.USER if sub else EventKind.ALL
    clients = {app: [one for one in issuer.clients if one.app == app] for app in apps}
    if unknown := [app for app, found in clients.items() if not found]:
        raise ValueError(f"not an app of this issuer: {', '.join(unknown)}")
    return [
        revoke(
            app=app,
            kind=kind,
            issuer_names=issuer.names,
            since=now if since is None else since,
            source=source,
            received_at=now,
            max_session_age=max(client.max_session_age for client in found),
            leeway=issuer.leeway,
            sid=sid,
            sub=sub,
            once=Once(jti, sid, sub, now + _JTI_SECONDS),
        )
        for app, found in clients.items()
    ]
