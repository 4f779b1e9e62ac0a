"""Why a guard cannot tell whether a session is dead."""

from typing import NoReturn


class RevocationUnknown(Exception):
    """Redis did not answer in time, so it is unknown whether the session is dead.

    Answer 503 and keep the session: its user has not been signed out. With ``on_outage="allow"``
    this is only raised for a value that cannot be read.
    """


class GuardMisconfigured(RevocationUnknown):
    """No answer is possible until someone acts; raised with ``on_outage="allow"`` too.

    Redis refuses the check; or no receiver serves this app in this Redis (a wrong URL, password,
    database, ACL rule or app name, or a Redis that has lost its data); or no receiver serves it for
    the session's issuer (another app's name, or an issuer that the settings do not have under this
    app); or this guard's ``max_session_age`` is larger than the receiver's.
    """


def unreadable_value() -> NoReturn:
    raise RevocationUnknown("Redis holds a value that is not a number")
