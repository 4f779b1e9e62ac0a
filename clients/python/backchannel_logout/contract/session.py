"""What an app stores about a login in its own session."""

import logging
import math
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, NamedTuple, Self

log = logging.getLogger("backchannel_logout")

MAX_AHEAD = 86_400
"""How many seconds a login may be ahead of our clock. No marker covers one that is years ahead,
such as a time in milliseconds."""

MEMBER = "backchannel_logout"
"""The member of the app's session that `remember` fills."""

SESSION_MEMBERS = ("iss", "sub", "sid", "login_at", "auth_time", "client_id")
"""What `remember` stores; the last two only where the ID token has them."""

# Earlier releases stored all of these at the top of the app's session. Sessions live for weeks, so
# they are still read there.
_OLD_MEMBERS = ("iss", "sub", "sid", "login_at")


class SessionNotIdentified(ValueError):
    """The mapping does not identify a login; see `remember`."""


class Session(NamedTuple):
    """A session of the app, as its provider knows it.

    ``login_at`` is the ``iat`` of the ID token of the login that opened it, in whole epoch seconds.
    A refreshed ID token has a newer ``iat`` and never changes it: otherwise a refresh after the
    logout would bring the session back to life. ``auth_time`` is when the user signed in at the
    provider, in whole epoch seconds, if the ID token has it. ``client_id`` is the OAuth client that
    the ID token was issued to.

    A tuple is the near cache's key without conversion, and cheap to make for each request.
    """

    iss: str
    login_at: int
    sid: str | None = None
    sub: str | None = None
    auth_time: int | None = None
    client_id: str | None = None

    @classmethod
    def from_mapping(cls, session: Mapping[str, Any]) -> Self:
        """Read what `remember` stored, from the app's session or from the stored member itself.

        Raises `SessionNotIdentified` if it is missing. Called for each request.
        """
        get = session.get
        client_id = None  # at the top of the session this name is the app's own
        if (stored := get(MEMBER)) is not None:
            if type(stored) is not dict and not isinstance(stored, Mapping):
                raise SessionNotIdentified(f"{MEMBER} in the session is not what remember() stores")
            get = stored.get
            client_id = get("client_id")
        iss, login_at, auth_time = get("iss"), get("login_at"), get("auth_time")
        sid, sub = get("sid"), get("sub")
        if not iss or not _is_text(iss):
            raise SessionNotIdentified("the session has no issuer (iss); call remember() at login")
        if isinstance(login_at, bool) or not isinstance(login_at, int):
            raise SessionNotIdentified("the session has no login_at; call remember() at login")
        if sid is not None and not _is_text(sid):
            raise SessionNotIdentified("the session's sid is not a string")
        if sub is not None and not _is_text(sub):
            raise SessionNotIdentified("the session's sub is not a string")
        if auth_time is not None:
            auth_time = whole_seconds(auth_time)
        if client_id is not None and not isinstance(client_id, str):
            client_id = None
        return cls(iss, login_at, sid, sub, auth_time, client_id)


def remember(
    session: MutableMapping[str, Any],
    id_token_claims: Mapping[str, Any],
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Store the login in the app's session, as one member, `MEMBER`.

    Call it once, at the login, with the claims of the **verified** ID token. Do not call it at a
    refresh, whose newer ``iat`` would bring a session back to life that was ended in between.
    A second call for the same login changes nothing; a new login replaces the first.
    ``auth_time`` distinguishes a refresh from a login where the provider sends it (OpenID Connect
    Core 1.0, section 12.2): a refresh is ignored, and logged. Without ``auth_time`` clear the
    session at each login; otherwise a newer ``iat`` of the same login is logged as a warning.
    Raises `SessionNotIdentified` when the claims are not those of an ID token, or its ``iat`` is
    more than a day after ``clock`` (epoch seconds).
    """
    _check_claims(id_token_claims)
    members = {
        "iss": id_token_claims.get("iss"),
        "sub": id_token_claims.get("sub"),
        "sid": id_token_claims.get("sid"),
        "login_at": _login_at(id_token_claims.get("iat")),
    }
    signed_in_at: Any = id_token_claims.get("auth_time")
    if (auth_time := whole_seconds(signed_in_at)) is not None:
        members["auth_time"] = auth_time
    if (client_id := _client_id(id_token_claims)) is not None:
        members["client_id"] = client_id
    login = Session.from_mapping(members)
    if login.login_at > clock() + MAX_AHEAD:
        raise SessionNotIdentified(
            "the ID token's iat is more than a day ahead: is it in milliseconds, or a clock wrong?"
        )
    known = _known(session)
    if known is not None and _is_newer_token_of_same_login(known, login):
        if auth_time is not None and signed_in_at <= known.login_at:
            log.warning("remember() was called for a login that is known; login_at stays as it is")
            return
        log.warning(
            "remember() was called again for the same iss, sub and sid in a session that was not "
            "cleared. If this was a login, clear the session before it; at a refresh, do not call "
            "remember(): it would bring a session back to life that was ended in between"
        )
    forget(session)
    # Assigned, not changed in place: frameworks save a session after an assignment.
    session[MEMBER] = members


def forget(session: MutableMapping[str, Any]) -> None:
    """Remove what `remember` stored; the app's own members stay."""
    if session.pop(MEMBER, None) is not None:
        return
    if all(name in session for name in _OLD_MEMBERS) and _known(session) is not None:
        for name in _OLD_MEMBERS:
            session.pop(name, None)


def holds_login(session: Mapping[str, Any]) -> bool:
    """Whether the session looks as if `remember` was called for it."""
    if session.get(MEMBER) is not None:
        return True
    # Both: an app may have its own `sid`, also for visitors who are not signed in.
    return session.get("iss") is not None and session.get("login_at") is not None


def _check_claims(claims: object) -> None:
    """Raise `SessionNotIdentified` with what was passed in place of an ID token's claims."""
    if isinstance(claims, str | bytes):
        raise SessionNotIdentified(
            "this is a token, not its claims: verify the ID token, and pass the claims that your "
            "OpenID Connect library returns"
        )
    if not isinstance(claims, Mapping):
        raise SessionNotIdentified("the claims of an ID token are a mapping (a dict)")
    missing = [name for name in ("iss", "iat") if claims.get(name) is None]
    if missing:
        raise SessionNotIdentified(
            f"these claims have no {' and no '.join(missing)}: pass those of the verified ID "
            "token, not those of the userinfo endpoint"
        )


def _client_id(claims: Mapping[str, Any]) -> str | None:
    """The client of the ID token: its only audience, else ``azp`` (OpenID Connect Core 1.0,
    section 2)."""
    aud = claims.get("aud")
    audiences = aud if isinstance(aud, list | tuple) else [aud]
    client_id = audiences[0] if len(audiences) == 1 else claims.get("azp")
    return client_id if _is_text(client_id) else None


def _known(session: Mapping[str, Any]) -> Session | None:
    try:
        return Session.from_mapping(session)
    except SessionNotIdentified:
        return None


def _is_newer_token_of_same_login(known: Session, login: Session) -> bool:
    same = (known.iss, known.sub, known.sid) == (login.iss, login.sub, login.sid)
    return same and login.login_at > known.login_at


def _login_at(iat: object) -> int:
    """An ``iat`` in whole seconds. Raises `SessionNotIdentified`."""
    seconds = whole_seconds(iat)
    if seconds is None:
        raise SessionNotIdentified("the ID token's iat is not a number")
    return seconds


def whole_seconds(time_of_claim: object) -> int | None:
    """A time in a token, rounded down like the receiver's cutoffs; None if it is not a number.

    ``True`` is not a number either.
    """
    if isinstance(time_of_claim, int) and not isinstance(time_of_claim, bool):
        return time_of_claim
    if isinstance(time_of_claim, float) and math.isfinite(time_of_claim):
        return math.floor(time_of_claim)
    return None


def _is_text(value: object) -> bool:
    """Whether it is a string that can be encoded in UTF-8: a lone surrogate cannot."""
    if not isinstance(value, str):
        return False
    if value.isascii():  # almost always
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
