"""From a revocation to Redis: written or journaled, then acknowledged, and never lost again.

On the way:

    publisher      puts these together and keeps them running
    writer         Redis, else the journal, else 503
    quota          new markers for each app and minute
    grouped        concurrent writes in few round trips
    store          store.lua, many at once, and the wait for the level of durability
    app_meta       that an app is served, for which issuers and client ids, and until when
    unserved       apps in Redis that no client of the settings leads to
    other_keys     memory of what apps write under names that nothing reads
    command        the script's arguments, as the bytes that are sent
    exchange       many commands in one round trip
    redis_link     which server takes an app's writes now
    redis_fault    what went wrong: away, unwilling, not durable enough, or this one refused

While Redis takes no write:

    journal        entries that wait for it (journal_append: on the way in; journal_rows)
    journal_files  a file for each process; what the dead have left
    replay         from the journal to Redis
    salvage        a damaged journal
    reserve        room for deletions on a full disk
    record         a revocation as bytes that can be trusted again
    sqlite_file    a SQLite file with a thread of its own

When Redis has lost something:

    watch          once a second: who is primary, does it write (redis_facts: what it says)
    accepted       a copy of what Redis has acknowledged lately
    recovery       writes again what is missing
"""
