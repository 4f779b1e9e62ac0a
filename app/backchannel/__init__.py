"""Back-channel logout: from a provider's POST to revocations.

    pipeline          the steps of a token, each written once, and the response
    batch             runs them for all requests of one turn of the event loop
    waiting           runs them for one request that has to wait
    parking           runs them again for tokens whose keys were missing
    parked_tokens     the tokens that wait there
    explain           runs them for people, rule by rule
    endpoint          the Starlette endpoint, for what the fast path does not take
    form              the request's one field
    revocations       what a token revokes, in which apps
    admission         how much is processed at once, with a fair share for each issuer
    decryption_queue  one decryption at a time
    remedies          what to do about each refusal

Verification is in `app.tokens`, writing in `app.publish`. Built by `app.runtime.components`.
"""
