"""The users' API: their own sessions, listed and ended, and followed until every app has acted.

    api             the application; authenticates each request
    caller          the user and session behind a request: from an app's backend, or a browser
    access_token    verifies a browser's access token
    kratos_caller   verifies a user's own Kratos credential
    liveness        whether the caller's own session is alive; checked at each request
    request_limits  limits the requests of each user and each app
    sessions        list, end one, end all others
    progress        the progress of a termination, as JSON and as server-sent events
    responses       the JSON, with Auth0's names                                 (pure)
    devices         a user agent in readable form                                (pure)
    page            the page and the component `<active-sessions>`, in static/

A user reaches only their own sessions. ID tokens and logout tokens are not accepted.
"""
