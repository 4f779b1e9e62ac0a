"""What the README's numbers come from. Only ratios of one run count: machines are noisy.

A module for each part, with ``run(*, quick) -> Result`` (`__main__` has their order):

    throughput   the whole path on one core, beside a ceiling, two peers and no-ops
    algorithms   the receiver and the ceiling with RS256, ES256 and EdDSA
    latency      one logout alone
    processes    two receivers on one Redis, beside one
    storm        a hundred thousand logouts as fast as they come
    memory       what logouts cost in Redis
    startup      until readiness, and memory of a receiver
    growth       more issuers, apps and markers
    guard        what a check costs the relying app
    near_cache   and one that the near cache answers
    told         from the provider's POST to a handler in the app
    catch_up     a listener that was away while a hundred thousand logouts came
    tails        what the readers of an app's stream cost the writer of a logout

Around them:

    servers      what is measured, a file each; `peers` has the packages from npm
    ears         a listener, or a subscriber, in a process of its own
    load         sends what `tokens` has signed, and counts every answer
    machine      cores, and what processes take of them
    figures      medians, spreads, tables
    report       keeps results and writes them into the documents; `plot` draws them

Tests and bench share what starts a receiver, a Redis and a provider (`tests.support`).
"""
