"""What operators see of the receiver's work.

    attempt_log    what happened to one token: a log line, a count, an entry for a refusal
    refusals       those entries, in a stream of Redis
    fair_quota     shares the stream and the log fairly between kinds of refusals
    sanitize       bounds and escapes what a stranger has written            (pure)
    hashes         keyed hashes of users and sessions
    reporting      builds the above and keeps it running
    logs           the log: setup, rendering, writing, limits
    metrics        `/metrics`: definitions, counters, readings, text
    traces, otel   spans to OpenTelemetry, where enabled
    canary_outcome the results of a canary's attempt

Other packages report here; telemetry calls none of them.
"""
