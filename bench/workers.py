"""One worker on one core, two workers on two.

On two cores the load and Redis compete with the second worker, so the rate alone says little: what
counts is the processor time of one logout with either, and how evenly the workers share the
work. With enough cores the rate grows by ``2 x time with one / time with two x half / share of
the busier one``.
"""

from bench.figures import median, spread, table
from bench.machine import cores, cpu_seconds_each
from bench.report import Claim, Result
from bench.servers import NotMeasured, check, receiver
from bench.throughput import stage

ROUNDS = 12
TOKENS = 2500
GOAL = 1.7

# The kernel deals connections out to the workers at random: of few, one may get most.
CONNECTIONS = 128


def run(*, quick: bool) -> Result:
    rounds, tokens = (1, 400) if quick else (ROUNDS, TOKENS)
    what = "what two workers do, beside one, in processor time"
    try:
        with (
            stage() as (where, mint),
            receiver.running(where, "one", top="workers = 1") as one,
            receiver.running(where, "two", top="workers = 2", own_cores=cores()) as two,
        ):
            few = mint.sign(40)
            rates: dict[str, list[float]] = {"one": [], "two": []}
            times: dict[str, list[float]] = {"one": [], "two": []}
            shares: list[float] = []
            check(one, few)
            check(two, few)
            for _ in range(rounds + 1):  # the first one warms up
                batch = mint.sign(tokens)
                for name, server in (("one", one), ("two", two)):
                    before = cpu_seconds_each(server.pid)
                    rates[name].append(server.send(batch, connections=CONNECTIONS).rate)
                    after = cpu_seconds_each(server.pid)
                    taken = [after[pid] - before[pid] for pid in after]
                    times[name].append(sum(taken) / tokens)
                    if server is two:
                        shares.append(max(taken) / sum(taken))
    except NotMeasured as fault:
        return Result(f"Not measured: {fault}", [Claim(what, f"≥ {GOAL}", str(fault), held=None)])
    gains = [
        alone / together / share
        for alone, together, share in list(zip(times["one"], times["two"], shares, strict=True))[1:]
    ]
    rows = [
        (name, f"{median(rates[name][1:]):,.0f}", f"{median(times[name][1:]) * 1e6:.0f}")
        for name in ("one", "two")
    ]
    text = table(("workers", "logouts/s", "CPU, µs"), rows)
    shared = f"The busier of the two had {median(shares[1:]):.0%} of the work."
    claim = Claim(what, f"≥ {GOAL}", spread(gains), held=median(gains) >= GOAL)
    return Result(f"{text}\n\n{shared} In processor time two do {spread(gains)} of one.", [claim])
