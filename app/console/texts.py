"""The words for enumerations that several pages share. Other texts are where they are shown."""

from backchannel_logout import AppStatus, EventKind, Proof

ENDED = {
    EventKind.SESSION: "session ended",
    EventKind.USER: "user signed out",
    EventKind.ALL: "everybody signed out",
}
"""The effect of an event."""

FEED = {
    "refused": "refused",
    "waits": "waits for keys",
    "missed": "Some entries may be missing here: the stream was trimmed.",
    "unreadable": "event of another release",
    "everybody": "Everybody",
    "what_to_do": "What to do",
}
"""The words of the feed's rows, which both the server and the script render."""

ACTS = {
    "console.sign_in": "signed in to the console",
    "console.sign_out": "signed out of the console",
    "console.feed": "viewed the feed",
    "console.story": "viewed a story",
    "console.refusals": "viewed refusals",
    "console.explain": "had a token explained",
    "feed.listen": "streamed the feed",
    "sessions.list": "listed a user's sessions",
    "session.read": "viewed a session",
    "session.state": "watched a termination",
    "session.end": "ended a session",
    "account.session.end": "ended a session of their own",
    "session.ended": "a termination is over",
    "revocation.read": "viewed a history",
    "revocation.write": "wrote a revocation",
    "keys.fetch": "asked for an issuer's keys",
    "reload": "had the tenants' settings read again",
    "revoke": "revoked from the command line",
}
"""Acts in the audit; the page shows an unknown one by its name."""

KINDS = {
    EventKind.SESSION: "Session",
    EventKind.USER: "User",
    EventKind.ALL: "Everybody",
}
"""The subject of a revocation."""

PROOFS = {
    AppStatus.TORN_DOWN: "A listener has handled it",
    AppStatus.SEEN: "Every guard that caches answers knows it",
    AppStatus.ASKS: "The app queries Redis at each check and finds the marker",
    AppStatus.WAITING: "A reader has not reached it yet",
    AppStatus.FAILED: "A listener has given it up",
    AppStatus.SILENT: "The app had readers, and none is active now",
    AppStatus.NOBODY: "Not reporting: no guard or listener of the app ever has",
}

PHASES = {
    "begun": "begun",
    "asked": "provider asked",
    "gone": "gone at the provider",
    "received": "logout token received",
    "written": "written for every app",
    "confirmed": "confirmed",
    "proven": "every app has acted",
    "unconfirmed": "not confirmed",
}
"""The phases of a termination."""

SESSION_STATES = {
    "active": "active",
    "ended": "ended",
    "idle": "unused for too long",
    "expired": "expired",
}


def behind(proof: Proof) -> str:
    """The suffix for replicas that have not read the event."""
    return f": {proof.readers - proof.seen} of {proof.readers} replicas behind"
