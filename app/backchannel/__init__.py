"""What providers send, a protocol each: so far back-channel logout.

    backchannel    the provider's POST, and its answer
    form           its one field
    revocations    what its token revokes
    direct         the short way of a request that comes whole, past ASGI
    whole          those that came together, step by step
    limits         what a client may take of us before its request is understood
    load           how much is at work at once, with a share for each issuer
    parking        tokens that wait for a key that can not be had now

Owns the way from the listener to the writer; does not verify (`app.tokens`) and does not write
(`app.publish`). Built by `app.runtime.components`.
"""
