"""Apps that Redis takes no writes for, while it takes those of others.

``NOPERM``: the receiver's Redis user may not write the app's keys. ``WRONGTYPE``: one of its keys
has another type. ``QUOTA``: it had too many new markers, see ``marker_quota``.
"""

import time
from collections.abc import Callable, Mapping

from app.log import new_log

log = new_log(__name__)

QUOTA = "QUOTA"

# A write that fails is tried again from the journal every few seconds, and renews the fault.
_FORGET_SECONDS = 60.0


class AppFaults:
    """The latest fault of each app that has one."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.of_meta: dict[str, str] = {}
        """Apps whose ``meta`` is refused; found out by each check of it."""
        self._of_writes: dict[str, tuple[str, float]] = {}
        self.repaired = False
        """Whether a fault has ended since this was set to False."""

    @property
    def words(self) -> Mapping[str, str]:
        """Each app's fault as one word, by the app's name."""
        if not self.of_meta and not self._of_writes:  # nearly always
            return {}
        now = self._monotonic()
        old = [app for app, (_, at) in self._of_writes.items() if now - at > _FORGET_SECONDS]
        for app in old:
            self._end(self._of_writes, app)
        of_writes = {app: word for app, (word, _) in self._of_writes.items()}
        return dict(sorted((of_writes | self.of_meta).items()))

    def meta_refused(self, app: str, word: str) -> None:
        """Redis refused to read or write the app's ``meta``."""
        self._begin(app, word)
        self.of_meta[app] = word

    def meta_written(self, app: str) -> None:
        """Redis would take the app's ``meta``."""
        if app in self.of_meta:
            self._end(self.of_meta, app)

    def write_refused(self, app: str, word: str) -> None:
        """A revocation of the app was not written."""
        self._begin(app, word)
        self._of_writes[app] = word, self._monotonic()

    def written(self, app: str) -> None:
        """A revocation of the app was written."""
        if app in self._of_writes:
            self._end(self._of_writes, app)

    def _begin(self, app: str, word: str) -> None:
        before = self.of_meta.get(app), self._of_writes.get(app, ("", 0.0))[0]
        if word not in before:
            log.error("redis", outcome="app_not_writable", app=app, error=word)

    def _end(self, faults: dict[str, str] | dict[str, tuple[str, float]], app: str) -> None:
        del faults[app]
        self.repaired = True
        if app not in self.of_meta and app not in self._of_writes:
            log.info("redis", outcome="app_writable", app=app)
