"""Derives revocations from a logout token: one for each relying app concerned."""

from functools import lru_cache
from typing import NamedTuple

from app.config.issuers import ClientSettings, IssuerSettings
from app.revocation import Once, Revocation, revoke
from app.tokens.logout_token import LogoutToken
from backchannel_logout import EventKind

SOURCE = "backchannel-logout"

# Enum member lookup is slow.
_SESSION, _USER = EventKind.SESSION, EventKind.USER


def revocations_for(token: LogoutToken, *, received_at: float) -> list[Revocation]:
    """One revocation for each relying app that ``aud`` names.

    ``sid`` ends that session only, even if ``sub`` is present: widening it to the user would end
    all devices for one. A client can choose that (``both_claims``) if its provider's ID tokens have
    no ``sid``, so that nothing else could be matched.
    """
    issuer = token.issuer
    until = token.iat + issuer.max_token_age + issuer.leeway
    once = Once(token.jti, token.sid, token.sub, until)
    return [
        revoke(
            app=app.app,
            kind=_USER
            if token.sid is None or (token.sub is not None and app.both_claims == "user")
            else _SESSION,
            issuer_names=issuer.names,
            sid=token.sid,
            sub=token.sub,
            since=token.iat,
            source=SOURCE,
            received_at=received_at,
            max_session_age=app.max_session_age,
            leeway=issuer.leeway,
            client_ids=app.client_ids,
            once=once,
            revoke_offline_access=token.revoke_offline_access,
        )
        for app in _concerned(issuer, token.client_ids)
    ]


class _App(NamedTuple):
    """A relying app concerned, and the options of its clients."""

    app: str
    client_ids: tuple[str, ...]
    max_session_age: float
    both_claims: str


@lru_cache(maxsize=1024)  # nearly every token is for one client, or for all of its issuer
def _concerned(issuer: IssuerSettings, client_ids: tuple[str, ...]) -> list[_App]:
    by_app: dict[str, list[ClientSettings]] = {}
    for client in issuer.clients:
        if client.client_id in client_ids:
            by_app.setdefault(client.app, []).append(client)
    return [
        _App(
            app,
            tuple(client.client_id for client in clients),
            clients[0].max_session_age,
            clients[0].both_claims,
        )
        for app, clients in by_app.items()
    ]
