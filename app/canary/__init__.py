"""A session of our own, ended on a schedule through the whole path, and what that took.

    issuer    an issuer inside the service, which signs with a key that is nowhere else
    canary    POSTs its logout tokens to ``listen``, and looks for marker and receipt in Redis

It shows that listener, verification, Redis and the app's side of the contract work together, before
a provider needs them. It shows nothing of any provider, nor of what stands in front of ``listen``.
"""
