"""What a logout token revokes, in which relying apps."""

from app.revocation import Once, Revocation, revoke
from app.settings_plain import PlainClient
from app.tokens.logout_token import LogoutToken
from backchannel_logout import EventKind

SOURCE = "backchannel-logout"

# An enumeration's members are found slowly.
_SESSION, _USER = EventKind.SESSION, EventKind.USER


def revocations_for(token: LogoutToken, *, received_at: float) -> list[Revocation]:
    """What a token revokes: one revocation for each relying app that its ``aud`` names.

    ``sid`` ends that session only, also where ``sub`` stands beside it; widening it to the
    user would end all devices for one. A client may ask for that (``both_claims``) where its
    provider's ID tokens carry no ``sid``, so that nothing else could be matched.
    """
    issuer, named = token.issuer, token.client_ids
    by_app: dict[str, list[PlainClient]] = {}
    for client in issuer.clients:
        if client.client_id in named:
            by_app.setdefault(client.app, []).append(client)
    until = token.iat + issuer.max_token_age + issuer.leeway
    once = Once(token.jti, token.sid, token.sub, until)
    revocations = []
    for app, concerned in by_app.items():
        whole_user = token.sid is None or (
            token.sub is not None and concerned[0].both_claims == "user"
        )
        revocations.append(
            revoke(
                app=app,
                kind=_USER if whole_user else _SESSION,
                issuer_names=issuer.names,
                sid=token.sid,
                sub=token.sub,
                since=token.iat,
                source=SOURCE,
                received_at=received_at,
                max_session_age=concerned[0].max_session_age,
                leeway=issuer.leeway,
                client_ids=tuple([client.client_id for client in concerned]),
                once=once,
                revoke_offline_access=token.revoke_offline_access,
            )
        )
    return revocations
