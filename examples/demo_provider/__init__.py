"""A small but correct OpenID provider for trials of back-channel logout. Not for real users.

    config           the port, the clients and the users
    state            the parts, shared by all endpoints
    authorization    /authorize: authorization code flow, PKCE required
    codes            authorization codes: short-lived, for one use
    token_endpoint   /token: exchanges a code for an ID token
    tokens           ID tokens and logout tokens, signed; the public key
    sessions         the users' sessions, in memory
    logout           ends a session and POSTs a logout token to every client that used it
    login            /login: choose a user (there are no passwords)
    account          /sessions: the user's sessions, each with a button that ends it
    end_session      /end-session: RP-Initiated Logout
    session_api      /api/v2: sessions with the paths and the JSON of Auth0's Management API
    machine          /oauth/token: client credentials for that API
    web              shared by the pages: HTML, cookie, CSRF
    app              everything as one Starlette application

Everything is in memory and ends with the process, including the signing key.
"""
