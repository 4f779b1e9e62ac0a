"""Reads `/metrics` as Prometheus does."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from tests.support.receiver import Receiver


class Scrape:
    """One response. Samples are selected by name and some of their labels."""

    def __init__(self, receiver: Receiver) -> None:
        answer = receiver.http.get(receiver.admin_url + "/metrics")
        assert answer.status_code == 200
        self.text = answer.text
        self.samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        ]

    @property
    def series(self) -> set[tuple[str, str]]:
        return {(name, str(sorted(labels.items()))) for name, labels, _ in self.samples}

    def values(self, name: str, **labels: str) -> dict[str, float]:
        """The values of the samples with these labels, by the rest of their labels."""

        def rest(own: Mapping[str, str]) -> str:
            return ",".join(value for key, value in sorted(own.items()) if key not in labels)

        return {
            rest(own): value
            for sample_name, own, value in self.samples
            if sample_name == name and labels.items() <= own.items()
        }

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of the samples with these labels; None without one."""
        values = self.values(name, **labels)
        return sum(values.values()) if values else None
