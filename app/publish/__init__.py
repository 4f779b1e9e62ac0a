"""From a revocation to a durable answer.

    publisher  composes what is between a revocation and Redis, and keeps it running
    writer     writes to Redis, else to the journal, and only then acknowledges
    quota      new markers per app and minute

The parts: `app.store` talks to Redis, `app.journal` to the disk.
"""
