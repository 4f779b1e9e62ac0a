"""Ends a session of its own on a schedule, and measures how long each stage takes.

    issuer    an issuer inside the service, with a key that exists nowhere else
    canary    POSTs its logout tokens to ``listen``, looks for marker and receipt in Redis, and
              counts the attempts for `/metrics`

It shows that listener, verification, Redis and the app's side of the contract work together, before
a provider needs them. It tests no provider, and nothing in front of ``listen``.
"""
