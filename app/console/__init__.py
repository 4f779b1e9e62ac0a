"""`/console`, the operators' pages: HTML rendered on the server, and one small script.

    console        the application: authentication and the headers of every answer
    sign_in/       sign-in, sign-out, and the console's own sessions
    feed_pages     the feed and the refusals
    story_pages    search, and the story of a session or user
    session_pages  a user's sessions at the provider; ends them
    status_pages   issuers, apps, and health
    token_forms    explains and looks up pasted tokens
    forms          reads the query and the forms of a request
    feed_views     rows of the feed, and refusals with a remedy       (pure)
    story_views    the timeline of a story                            (pure)
    session_views  the timeline of a termination                      (pure)
    plot           teardown times as a small chart                    (pure)
    rendering      templates and static files
    texts          the words for shared enumerations

All other texts are in the templates and views that show them.
"""
