"""Chooses which apps and clients have series of their own, so that their number is bounded.

Up to `metrics_max_apps` everything has. Of a larger fleet, `metrics_apps` have, and those that are
counted first until there are as many; the rest is summed as `OTHER`. Who has its own keeps it
until the end of the process, so no counter ever goes backwards.
"""

from collections.abc import Container
from typing import Any

from app.config.model import Settings
from app.telemetry.metrics.series import NOTHING, Labels, Metric, fits

OTHER = "(other)"
"""The label of those without series of their own; no app can have this name."""

_Client = tuple[str, str]


class Selection:
    """The known names of the settings, and which of them are shown."""

    def __init__(self, settings: Settings) -> None:
        self.max_apps = settings.metrics_max_apps
        self.all_fit = fits(settings)
        self.app_of: dict[_Client, str] = {
            (issuer.issuer, client.client_id): client.app
            for issuer in settings.issuers
            for client in issuer.clients
        }
        self.apps = frozenset(self.app_of.values())
        self._issuers = frozenset((NOTHING, *(issuer.issuer for issuer in settings.issuers)))
        self.requested = self.apps.intersection(settings.metrics_apps)
        self._shown_apps = set(self.requested)
        self._shown_clients = {
            client for client, app in self.app_of.items() if app in self.requested
        }

    def serve(self, settings: Settings) -> None:
        """Know the names of these settings, too; those before are still counted."""
        fit, self.all_fit = self.all_fit, self.all_fit and fits(settings)
        if fit and not self.all_fit:
            # They have had series of their own so far.
            self._shown_apps |= self.apps
            self._shown_clients |= self.app_of.keys()
        self.app_of |= {
            (issuer.issuer, client.client_id): client.app
            for issuer in settings.issuers
            for client in issuer.clients
        }
        self.apps = frozenset(self.app_of.values())
        self._issuers |= {issuer.issuer for issuer in settings.issuers}

    def knows(self, metric: Metric, labels: Labels) -> bool:
        """Whether all names among the labels are of the settings."""
        names = dict(zip(metric.labels, labels, strict=True))
        client = names.get("client", NOTHING)
        return (
            names.get("issuer", NOTHING) in self._issuers
            and (client == NOTHING or (names["issuer"], client) in self.app_of)
            and ("app" not in names or names["app"] in self.apps)
        )

    def count(self, metric: Metric, labels: Labels) -> None:
        """A series is counted for the first time: show it, if there is room."""
        if "app" in metric.labels:
            self._add(self._shown_apps, labels[metric.labels.index("app")])
        elif "client" in metric.labels and (client := _client(metric, labels))[1] != NOTHING:
            self._add(self._shown_clients, client)

    def shown(self, metric: Metric, labels: Labels) -> Labels:
        """The labels under which the series is shown."""
        if self.all_fit:
            return labels
        if "app" in metric.labels:
            app = metric.labels.index("app")
            if labels[app] not in self._shown_apps:
                return (*labels[:app], OTHER, *labels[app + 1 :])
        elif "client" in metric.labels:
            client = _client(metric, labels)
            if client[1] != NOTHING and client not in self._shown_clients:
                at = metric.labels.index("client")
                return (*labels[:at], OTHER, *labels[at + 1 :])
        return labels

    def is_of(self, metric: Metric, labels: Labels, apps: Container[str]) -> bool:
        """Whether the series is about one of the apps."""
        if "app" in metric.labels:
            return labels[metric.labels.index("app")] in apps
        if "client" in metric.labels:
            return self.app_of.get(_client(metric, labels)) in apps
        return False

    def _add(self, shown: set[Any], name: object) -> None:
        if len(shown) < self.max_apps:
            shown.add(name)


def _client(metric: Metric, labels: Labels) -> _Client:
    return labels[metric.labels.index("issuer")], labels[metric.labels.index("client")]
