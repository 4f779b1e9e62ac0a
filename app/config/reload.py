"""Takes changed settings of tenants without a restart: at SIGHUP, at a changed file, on request.

Issuers, clients, apps and their options are taken from the files of the tenants and from the main
file. Every other setting of the main file needs a restart, which is said and changes nothing.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from app.config.issuers import ClientOptions, IssuerOptions
from app.config.load import Loaded, SettingsFault, Tenant, keep, same_served
from app.config.model import Settings
from app.log import new_log

log = new_log(__name__)

# How often the files are looked at.
WATCH_SECONDS = 2.0

_TAKEN = {
    "issuers", "account_apps", "tenants_dir", *IssuerOptions.model_fields,
    *ClientOptions.model_fields,
}  # fmt: skip

_Load = Callable[[Mapping[str, Tenant]], Loaded]
_Files = tuple[tuple[str, int, int, int], ...]


class ReloadOutcome(StrEnum):
    """Log field, metric label and answer."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    """The main file has a fault: nothing was taken."""


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What became of one reload, by the names of the tenants."""

    outcome: ReloadOutcome
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)
    """The faults of each file that was refused."""
    faults: list[str] = field(default_factory=list)
    """Those of the main file."""
    needs_restart: list[str] = field(default_factory=list)
    """Settings of the main file that differ from those in service."""


class Reload:
    """``loaded`` is in service. ``load`` reads the files, given the tenants in service; ``serve``
    puts settings into service."""

    def __init__(
        self,
        loaded: Loaded,
        load: _Load,
        serve: Callable[[Settings], Awaitable[None]],
        on_reload: Callable[[ReloadOutcome], None] = lambda _: None,
    ) -> None:
        self._started_with = loaded.main.settings
        self._loaded = loaded
        self._load = load
        self._serve = serve
        self._on_reload = on_reload
        self._turn = asyncio.Lock()
        self._asked = asyncio.Event()
        keep(loaded)
        self._log_refused({})

    @property
    def refused(self) -> Mapping[str, list[str]]:
        """The faults of each tenant's file that is refused now."""
        return self._loaded.refused

    def ask(self) -> None:
        """Reload soon; for a signal handler."""
        self._asked.set()

    async def reload(self, why: str) -> ReloadResult:
        """Read the files and serve what they say. ``why`` is for the log."""
        async with self._turn:
            try:
                result = await self._reload()
            except SettingsFault as fault:
                result = ReloadResult(ReloadOutcome.REFUSED, faults=fault.faults)
            self._on_reload(result.outcome)
        level = log.error if result.faults else log.info
        level(
            "reload", outcome=result.outcome.value, why=why, added=result.added,
            changed=result.changed, removed=result.removed, faults=result.faults,
            needs_restart=result.needs_restart,
        )  # fmt: skip
        return result

    async def keep_reloading(self) -> None:
        """Reload when asked, and when a file has changed. Never returns."""
        seen = settled = await asyncio.to_thread(self._files)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await self._asked.wait()
            if self._asked.is_set():
                self._asked.clear()
                await self._logged_reload("signal")
                settled = seen = await asyncio.to_thread(self._files)
                continue
            found = await asyncio.to_thread(self._files)
            # Twice the same: no file is half written, no link half moved.
            if found == seen and found != settled:
                settled = found
                await self._logged_reload("files")
            seen = found

    async def _logged_reload(self, why: str) -> None:
        try:
            await self.reload(why)
        except Exception:
            log.exception("reload", outcome="failed", why=why)

    async def _reload(self) -> ReloadResult:
        before = self._loaded
        after = await asyncio.to_thread(self._load, before.tenants)
        if not same_served(after.settings, before.settings):
            await self._serve(after.settings)
            outcome = ReloadOutcome.APPLIED
        else:
            outcome = ReloadOutcome.UNCHANGED
        self._loaded = after
        self._log_refused(before.refused)
        await asyncio.to_thread(keep, after)
        old, new = before.tenants, after.tenants
        return ReloadResult(
            outcome,
            added=sorted(new.keys() - old.keys()),
            changed=sorted(n for n in new.keys() & old.keys() if not new[n].equals(old[n])),
            removed=sorted(old.keys() - new.keys()),
            refused=after.refused,
            needs_restart=self._needs_restart(after.main.settings),
        )

    def _needs_restart(self, settings: Settings) -> list[str]:
        return sorted(
            name
            for name in Settings.model_fields.keys() - _TAKEN
            if getattr(settings, name) != getattr(self._started_with, name)
        )

    def _log_refused(self, before: Mapping[str, list[str]]) -> None:
        for name, faults in self._loaded.refused.items():
            if before.get(name) != faults:
                kept = name in self._loaded.tenants
                log.error("tenant", outcome="refused", tenant=name, kept=kept, faults=faults)

    def _files(self) -> _Files:
        return tuple(_fingerprints(self._loaded))


def _fingerprints(loaded: Loaded) -> Iterator[tuple[str, int, int, int]]:
    """Of the main file and of each tenant's; links, such as those of Kubernetes, are followed."""
    directory, main = loaded.main.settings.tenants_dir, loaded.main.path
    files: list[Path] = [] if main is None else [main]
    if directory is not None:
        files += sorted(directory.glob("*.toml"))
    for file in files:
        try:
            status = file.stat()
        except OSError:
            yield str(file), 0, 0, 0
        else:
            yield str(file), status.st_ino, status.st_mtime_ns, status.st_size
