"""The receiver and the ceiling with each signature algorithm; nothing else differs."""

from bench.figures import median, spread, table
from bench.report import Result
from bench.throughput import CEILING, RECEIVER, ROWS, measure, ratios
from bench.tokens import ALGORITHMS

ROUNDS = 12
TOKENS = 750


def run(*, quick: bool) -> Result:
    rounds, tokens = (1, 400) if quick else (ROUNDS, TOKENS)
    rows: list[tuple[str, ...]] = []
    for algorithm in ALGORITHMS:
        wanted = {name: ROWS[name] for name in (RECEIVER, CEILING)}
        found, missing = measure(wanted, algorithm, rounds=rounds, tokens=tokens, half_load=False)
        if missing:
            rows.append((algorithm, "; ".join(missing.values())))
            continue
        rows.append(
            (
                algorithm,
                *(f"{median(found[name].rates):,.0f}" for name in wanted),
                spread(ratios(found, RECEIVER, CEILING)),
                *(f"{median(found[name].cpu) * 1e6:.0f}" for name in wanted),
            )
        )
    head = (
        "", "receiver, 1/s", "ceiling, 1/s", "ratio", "receiver's CPU, µs", "ceiling's CPU, µs",
    )  # fmt: skip
    return Result(table(head, rows))
