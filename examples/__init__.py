"""Example programs.

    relying_app      a small app that uses the client package
    demo_provider    a small OpenID provider that sends logout tokens
    demo             ``make demo``: both with a receiver, and a scripted logout

They are not installed; run them from the root of the repository.
"""
