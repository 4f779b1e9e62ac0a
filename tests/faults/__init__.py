"""Fault tests: a receiver under load, real servers, and a ledger of every answer.

wire           one keep-alive connection of a well-behaved provider
tokens         the tokens and their claims, drawn from a seeded generator
load           many connections at a moderate rate, and an entry for each request
ledger         the verdict: every acknowledged logout is in Redis, and no other session is dead
fault_fixture  servers, receivers and load of one test, and its report
report         the seed and one line per fault (`table` turns them into Markdown)
wrapped        the real app with a clock that the test sets, or with files that cannot grow

`make faults` runs it with three seeds. ``FAULTS_SEED=17 make faults`` repeats one of them.
"""
