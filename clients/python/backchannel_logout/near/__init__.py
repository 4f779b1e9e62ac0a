"""What a guard knows without asking Redis: kept answers, and the tail that keeps them true.

    cache         what is kept, and when it may serve                     (pure)
    event_reader  what to read from the stream, and what the replies mean (pure)
    tail          reads the stream for as long as the process lives
    reports       when a reader reports its position
    task          cache and tail in an event loop, for `AsyncSessionGuard`
    thread        cache and tail in a thread, for `SessionGuard`

A cached answer serves only while both hold: no event that names its session has arrived since its
query was sent, and the tail was in contact with the primary within ``max_stale``.
"""
