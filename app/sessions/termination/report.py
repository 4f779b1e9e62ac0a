"""Explains a termination to people, and why the receiver had to write a revocation itself."""

from app.sessions.termination.termination import Phase, Termination

HINDRANCES = {
    "started": "was started only after the provider had been asked",
    "redis": "did not reach Redis for some of that time",
    "unavailable": "answered logout tokens with 503 in that time",
}
"""Why a logout token may have been missed, as far as the following process knows."""

_LIKELY_CAUSES = {
    "auth0": "the session-revoked initiator is off for this application (set"
    " oidc_logout.backchannel_logout_initiators to mode all, or add session-revoked), or the"
    " application has no backchannel_logout_urls",
    "keycloak": "the client has no backchannel logout URL, or front channel logout is on for it",
}


def explanation(termination: Termination, confirm_within: float) -> str | None:
    """A sentence when something was out of the ordinary, else None."""
    if termination.phase is Phase.UNCONFIRMED:
        subject = "all sessions of the user are" if termination.of_user else "the session is"
        pronoun = "them" if termination.of_user else "it"
        what = termination.problem.what if termination.problem is not None else "unknown"
        return (
            f"The provider has not confirmed that {subject} gone ({what})."
            f" To end {pronoun} in the apps all the same, write a revocation."
        )
    ours = termination.apps_written_by_us
    if termination.of_user or not ours:
        return None  # the receiver always writes the revocation of a user itself
    provider = termination.provider
    if not termination.awaits_token:
        return f"{provider} sends no logout token for it; the receiver told the apps itself."
    what = (
        f"No logout token came within {confirm_within:g} s for {', '.join(ours)}; the receiver"
        " wrote the revocation itself."
    )
    if (hindrance := HINDRANCES.get(termination.hindrance or "")) is not None:
        return f"{what} It {hindrance}, so the provider may have sent one that was not taken."
    cause = _LIKELY_CAUSES.get(provider, "back-channel logout is off for this client")
    return f"{what} The likely cause: {cause}."
