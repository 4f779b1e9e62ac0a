"""A small but correct OpenID provider, for trying out back-channel logout. Not for real users.

    config           what the provider is told: its port, its clients; and its users
    state            the parts, as every endpoint gets them
    authorization    /authorize: authorization code flow, PKCE required
    codes            the codes of that flow: short-lived, good for one use
    token_endpoint   /token: a code for an ID token
    tokens           ID tokens and logout tokens, signed; the public key
    sessions         the users' sessions, in memory
    logout           ends a session and POSTs a logout token to every client that used it
    login            /login: who are you? (there are no passwords)
    account          /sessions: the user's sessions, each with a button that ends it
    end_session      /end-session: RP-Initiated Logout
    session_api      /api/v2: sessions with the paths and the JSON of Auth0's Management API
    machine          /oauth/token: client credentials for that API
    web              what the pages share: HTML, cookie, CSRF
    app              all of it as one Starlette application

Everything is in memory and ends with the process, the signing key too.
"""
