"""`/metrics` as Prometheus reads it."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from tests.support.receiver import Receiver


class Scrape:
    """One answer. A sample is asked for by its name and those of its labels that matter."""

    def __init__(self, receiver: Receiver) -> None:
        answer = receiver.http.get(receiver.admin_url + "/metrics")
        assert answer.status_code == 200
        self.text = answer.text
        self.samples = [
            (one.name, one.labels, one.value)
            for family in text_string_to_metric_families(answer.text)
            for one in family.samples
        ]

    @property
    def series(self) -> set[tuple[str, str]]:
        return {(name, str(sorted(labels.items()))) for name, labels, _ in self.samples}

    def values(self, name: str, **labels: str) -> dict[str, float]:
        """The values of those with these labels, by the rest of their labels."""

        def rest(found: Mapping[str, str]) -> str:
            return ",".join(value for key, value in sorted(found.items()) if key not in labels)

        return {
            rest(found): value
            for own, found, value in self.samples
            if own == name and labels.items() <= found.items()
        }

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of those with these labels; None where there is none."""
        found = self.values(name, **labels)
        return sum(found.values()) if found else None
