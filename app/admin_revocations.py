"""An administrator's act as revocations: one for each affected app. Pure.

They produce the same markers and events as logout tokens, with the source `SOURCE`. Who did it, and
why, is only in the audit, because apps read their streams. The ``jti`` links the events to the
audit entry.
"""

import secrets
from collections.abc import Sequence

from app.config.issuers import IssuerSettings
from app.revocation import Once, Revocation, revoke
from backchannel_logout.contract.kinds import kind_for

SOURCE = "admin"

# How long the ``jti`` is remembered: an act is only retried while its caller waits.
_JTI_SECONDS = 600


def new_jti() -> str:
    """A unique ``jti`` for an act."""
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
    """Revoke logins up to ``since`` (epoch seconds; ``now`` by default), one revocation per app.

    Ends the session ``sid``, else all sessions of the user ``sub``, else everything of the issuer.
    Raises ``ValueError`` for an app of another issuer.
    """
    kind = kind_for(sid, sub)
    clients = {app: [client for client in issuer.clients if client.app == app] for app in apps}
    if unknown := [app for app, of_app in clients.items() if not of_app]:
        raise ValueError(f"not an app of this issuer: {', '.join(unknown)}")
    return [
        revoke(
            app=app,
            kind=kind,
            issuer_names=issuer.names,
            since=now if since is None else since,
            source=source,
            received_at=now,
            max_session_age=max(client.max_session_age for client in of_app),
            leeway=issuer.leeway,
            sid=sid,
            sub=sub,
            once=Once(jti, sid, sub, now + _JTI_SECONDS),
        )
        for app, of_app in clients.items()
    ]
