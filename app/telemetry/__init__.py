"""What operators read of what happened.

    story         what happened to a token: one line, a count, and where it was refused an entry
    refusals      those entries, in a stream of Redis; `fairness` shares it out, `shown` bounds them
    hashes        users and sessions, as they may be told
    log           where the lines go; `lines` what they look like, `repetitions` what comes again,
                  `output` the thread that writes, `line_limit` how many of refused tokens
    traces        spans to OpenTelemetry, where that is switched on (`otel`)
    telling       all of it, put together and kept running

    metrics       every metric: name, meaning, labels
    series        what a metric is, and the values of its labels
    registry      the counters and histograms of the process
    counters      counts what happens, where it happens
    readings      what Redis knows of the apps, now and then (silence: of the providers)
    exposition    from numbers to text

Told by whom it happens to; knows nobody else.
"""
