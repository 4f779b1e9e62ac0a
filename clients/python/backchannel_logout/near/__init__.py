"""What a guard knows without asking: answers that are kept, and the tail that keeps them true.

    cache       what is kept, and when it may serve                           (pure)
    following   what to read of the stream, and what the answers mean         (pure)
    tail        reads on for as long as the process lives
    link        the one connection that it reads through
    task        cache and tail in an event loop, for `AsyncSessionGuard`
    thread      cache and tail in a thread of its own, for `SessionGuard`

A cached answer serves only while all of this holds: no event that names its session has come since
its question was sent; the tail was in contact with the primary within ``max_stale``.
"""
