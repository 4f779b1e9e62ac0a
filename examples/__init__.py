"""Programs to look at and to run.

    relying_app      a small relying app that uses the client package
    demo_provider    a small OpenID provider that sends logout tokens
    demo             ``make demo``: both around a receiver, and a scripted logout

Nothing here is installed; run them at the root of the repository.
"""
