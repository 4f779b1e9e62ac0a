"""The providers' own sessions: listed, read and ended through each provider's API.

model        one session, a page of them, lifetimes
lifecycle    when a session ends, and whether it has     (pure)
interface    what every adapter can do, and how it fails
segment      an id as one segment of a path
    bulk         all sessions of a user: through every page, ended one by one

    auth0        Auth0's Management API v2
    kratos       Ory Kratos' admin API; kratos_own: what users may do with their own sessions
    keycloak     Keycloak's Admin REST API
    providers    the adapter of a configured issuer

    endings      ends sessions, and follows each until every app has let go
    ending       how far one is                                     (pure)
    ending_notes endings in Redis: facts, and who follows them
    following    one ending, from the question to its end
    evidence     whether an app has been told

    calls        bounded HTTP calls: an answer, or a fault
    gate         when a provider that limits may be asked again
    access_token client credentials: cached, renewed
    shapes       what answers look like, as far as they are read
"""
