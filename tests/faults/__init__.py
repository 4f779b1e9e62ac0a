"""What breaks, breaks here: a receiver under load, real servers, and a ledger of every answer.

    wire      one keep-alive connection of an honest provider
    tokens    what is sent: facts of each token, drawn from a seeded generator
    load      many connections at a moderate rate, and an entry for each request
    ledger    the verdict: what was acknowledged must be in Redis, and nobody else may be dead
    scenario     servers, receivers and load of one test, and what is written down about it
    report    the seed and a line for each fault (`table` makes Markdown of them)
    wrapped   the real app with a clock of the test's own, or with files that can not grow

`make faults` runs it with three seeds. ``FAULTS_SEED=17 make faults`` repeats one.
"""
