"""A back-channel logout receiver.

The path of one logout token, and the file that is responsible for each step:

    server.listeners       serves HTTP (shutdown: the stop, which resets no client)
    server.fast_path       takes complete POSTs to the one path past ASGI
    backchannel.endpoint   the same as a Starlette endpoint, for all other requests
    backchannel.batch      runs the steps for all requests of one turn of the event loop
    backchannel.waiting    runs them for a request that waits: decryption, keys, several apps
    backchannel.pipeline   the steps themselves, the deadline, the response
    backchannel.form       the body: content type, size, one logout_token field
    tokens.encrypted_jwt   decryption: alg, enc, zip, cty
    tokens.signed_jwt      segments, issuer, header (alg, crit, kid), signature
    tokens.provider_keys   the issuer's keys: fetch, cache, refresh (fetch_budget: how often)
    tokens.jwks            one key set: which keys fit a token                   (pure)
    tokens.logout_token    typ and every claim: iat, exp, aud, events, sub, sid  (pure)
    revocation             who is logged out, up to which login, until when      (pure)
    publish.writer         writes to Redis, else to the journal, else 503
    store.batching         many writes in one round trip
    store.store.lua        markers, event and replay protection, in one atomic script
    journal.journal        what Redis has not taken yet, on disk (segment_log: file format, fsync)
    journal.ack_log        a copy of what Redis acknowledged, for a Redis that loses data
    (clients/python)       the relying app: checks markers, reads events (contract.kinds: the
                           kinds of markers; gate: a middleware's answers; checker: on_outage)

Around it:

    config         settings: model (names, defaults), types, cross_checks, presets of providers
    runtime        the composition root: builds, connects and stops everything
    admin          the operators' API, health and metrics
    console        the operators' pages; each page's texts are in its template and view
    account        users' own sessions, for apps and browsers
    web            what admin, console and account share: errors, parameters, event streams
    sessions       the providers' session APIs (providers/: one adapter each), and following a
                   termination to its end
    history        reads back from Redis: events, refusals, what apps have done
    telemetry      the log, metrics (definitions: names, labels), refusals, traces
    canary         ends a session of its own on a schedule
    cli            one file per command
    devtools       an embedded Redis for local trials
    errors         reasons, outages and their HTTP responses
    audit, admin_revocations, rate_limit, verdict, formatting, background, log, tracing
"""

__version__ = "0.1.0"
