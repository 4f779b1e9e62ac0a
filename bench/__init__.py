"""Measures the numbers in docs/performance.md. Machines are noisy, so only ratios of one run count.

A module for each part, with ``run(*, quick) -> Result`` (`__main__` has their order):

    throughput      the whole path on one core, next to a ceiling, two peers and no-ops
    algorithms      the receiver and the ceiling with RS256, ES256 and EdDSA
    latency         single logouts on an idle machine
    processes       two receivers on one Redis, next to one
    sustained_load  a hundred thousand logouts at full speed
    memory          the memory of logouts in Redis
    startup         time to readiness, and memory of a receiver
    scaling         more issuers, apps and markers
    guard           a check in the app
    near_cache      a check that the near cache answers
    delivery        from the provider's POST to a handler in the app
    catch_up        a listener that was down during a hundred thousand logouts
    reader_cost     the effect of an app's readers on the latency of a logout

Around them:

    servers           the measured servers, one file each; `peers` has the packages from npm
    listener_process  a listener or subscriber in its own process
    tail_process      many tails of guards in one process
    load              sends the tokens of `tokens` and counts every answer
    machine           cores, and the processor time and memory of processes
    figures           medians, spreads, tables
    report            stores results and writes them into the document; `plot` draws them
    trace             the files of ours that one logout passes through

Tests and bench share the helpers that start a receiver, a Redis and a provider (`tests.support`).
"""
