"""Compares the receiver and the ceiling for each signature algorithm."""

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
        compared = {name: ROWS[name] for name in (RECEIVER, CEILING)}
        measured, missing = measure(
            compared, algorithm, rounds=rounds, tokens=tokens, half_load=False
        )
        if missing:
            rows.append((algorithm, "; ".join(missing.values())))
            continue
        rows.append(
            (
                algorithm,
                *(f"{median(measured[name].rates):,.0f}" for name in compared),
                spread(ratios(measured, RECEIVER, CEILING)),
                *(f"{median(measured[name].cpu) * 1e6:.0f}" for name in compared),
            )
        )
    head = (
        "", "receiver, 1/s", "ceiling, 1/s", "ratio", "receiver's CPU, µs", "ceiling's CPU, µs",
    )  # fmt: skip
    return Result(table(head, rows))
