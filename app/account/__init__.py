"""The users' listener: their own sessions, reviewed and ended, until every app has let go.

    api            put together; the way in
    caller         who asks: an app's backend for one of its sessions, or a browser
    access_token   the browser's proof, against the issuer's keys
    liveness       whether the caller's own session lives: the markers are asked at each call
    limits         how often a user, and a caller, may ask
    sessions       list, end one, end all others
    progress       how far an end is: as JSON, and as server-sent events
    showing        JSON with Auth0's names                                   (pure)
    devices        a user agent, for people                                  (pure)
    web            the page, and the component `<active-sessions>` (files in static/)

A user reaches nothing but her own sessions, and nobody comes in by an ID token or a logout token.
"""
