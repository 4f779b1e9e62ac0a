"""Reads the settings with those of every tenant: files ``*.toml`` in a directory, one for each.

A file with a fault is refused, and its tenant keeps its last good state: what is running, else what
was kept on disk. The others are loaded.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from app.config.account import AccountApp
from app.config.base import Loc
from app.config.cross_checks import cross_checks
from app.config.issuers import ClientOptions, IssuerOptions, IssuerSettings
from app.config.main_file import (
    MainFile,
    SettingsFault,
    line,
    load_main,
    parse,
    unknown,
    validated,
)
from app.config.model import Settings

__all__ = ["Loaded", "SettingsFault", "Tenant", "keep", "load", "load_all", "same_served"]

_TABLES = ("issuers", "account_apps")

# These may be set for all issuers and clients of one file.
_OPTIONS = IssuerOptions.model_fields.keys() | ClientOptions.model_fields.keys()

# Of the main file; a tenant's own file takes nothing from them.
_NOT_HANDED_DOWN = ("canary", "admin_oidc", "sessions_secret", *_TABLES)

_KEPT_DIR = "tenants"


@dataclass(frozen=True, slots=True)
class Tenant:
    """A file that was accepted. ``text`` is its content."""

    name: str
    text: str
    issuers: tuple[IssuerSettings, ...]
    account_apps: tuple[AccountApp, ...]

    def equals(self, other: "Tenant") -> bool:
        """Whether every setting is the same, also those that the main file hands down."""
        return same_served(self, other)


class _Served(Protocol):
    @property
    def issuers(self) -> tuple[IssuerSettings, ...]: ...

    @property
    def account_apps(self) -> tuple[AccountApp, ...]: ...


def same_served(one: _Served, other: _Served) -> bool:
    """Whether both have the same issuers and account apps."""
    return (
        len(one.issuers) == len(other.issuers)
        and all(a.equals(b) for a, b in zip(one.issuers, other.issuers, strict=True))
        and one.account_apps == other.account_apps
    )


@dataclass(slots=True)
class Loaded:
    """``settings`` are complete: those of the main file and of every tenant."""

    main: MainFile
    settings: Settings
    tenants: dict[str, Tenant] = field(default_factory=dict)
    """Those in service, by the name of the file without ``.toml``."""
    refused: dict[str, list[str]] = field(default_factory=dict)
    """The faults of each file that was refused. A tenant that is also in service keeps its last
    good state."""


def load(
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    tenants_dir: Path | None = None,
) -> Settings:
    """The complete settings. Raises `SettingsFault` for a fault of the main file."""
    return load_all(path, environ, tenants_dir).settings


def load_all(
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    tenants_dir: Path | None = None,
    running: Mapping[str, Tenant] | None = None,
) -> Loaded:
    """The complete settings and the state of each tenant. ``running`` are those in service before a
    reload. Raises `SettingsFault` for a fault of the main file, or if the directory cannot be read.
    """
    main = load_main(path, environ, tenants_dir)
    loaded = Loaded(main, main.settings)
    if main.settings.tenants_dir is None:
        return loaded
    for name, text in _texts(main.settings.tenants_dir):
        tenant, faults = _read(main, name, text)
        if tenant is None:
            loaded.refused[name] = faults
            tenant = _last_good(main, name, running)
        if tenant is not None:
            loaded.tenants[name] = tenant
    _merge(loaded, running)
    return loaded


def keep(loaded: Loaded) -> None:
    """Keep each accepted file, for a start that finds it with a fault. Never raises."""
    directory = loaded.settings.data_dir / _KEPT_DIR
    with suppress(OSError):
        kept = {file.stem: file for file in directory.glob("*.toml")}
        for name, file in kept.items():
            if name not in loaded.tenants:
                file.unlink(missing_ok=True)
        for name, tenant in loaded.tenants.items():
            if name not in kept or kept[name].read_text("utf-8") != tenant.text:
                _write(directory, name, tenant.text)


def _write(directory: Path, name: str, text: str) -> None:
    """Replace the file at once. It may contain secrets."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = directory / f"{name}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(directory / f"{name}.toml")


def _texts(directory: Path) -> Iterator[tuple[str, str | SettingsFault]]:
    """The name and the content of each file, in the order of the names."""
    try:
        # Kubernetes keeps the files of a ConfigMap in hidden directories, with links to them.
        files = sorted(it for it in directory.glob("*.toml") if not it.name.startswith("."))
        if not directory.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise SettingsFault([f"tenants_dir: cannot be read ({error.strerror})"]) from None
    for file in files:
        try:
            yield file.stem, file.read_text("utf-8")
        except OSError as error:
            yield file.stem, SettingsFault([f"cannot be read ({error.strerror})"])
        except UnicodeDecodeError:
            yield file.stem, SettingsFault(["not UTF-8"])


def _read(main: MainFile, name: str, text: str | SettingsFault) -> tuple[Tenant | None, list[str]]:
    """The tenant, or its faults."""
    if isinstance(text, SettingsFault):
        return None, text.faults
    try:
        own = parse(Path(f"{name}.toml"), text)
    except SettingsFault as fault:
        return None, fault.faults
    faults = [f"{it}: {_misplaced(it)}" for it in own if it not in (*_TABLES, *_OPTIONS)]
    if not own.get("issuers"):
        faults.append("issuers: is required, at least one [[issuers]] table")
    handed_down = {it: value for it, value in main.raw.items() if it not in _NOT_HANDED_DOWN}
    known: dict[str, Any] = {it: value for it, value in own.items() if it in (*_TABLES, *_OPTIONS)}
    settings = validated(handed_down | known, {}, faults)
    if faults:
        return None, sorted(set(faults))
    return Tenant(name, text, settings.issuers, settings.account_apps), []


def _misplaced(name: str) -> str:
    if name in Settings.model_fields:
        return "does not belong to a tenant; set it in the main file"
    return unknown(name)


def _last_good(main: MainFile, name: str, running: Mapping[str, Tenant] | None) -> Tenant | None:
    """The tenant as it runs; at a start as it was kept, if the settings still accept it."""
    if running is not None:
        return running.get(name)
    with suppress(OSError, UnicodeDecodeError):
        kept = main.settings.data_dir / _KEPT_DIR / f"{name}.toml"
        return _read(main, name, kept.read_text("utf-8"))[0]
    return None


def _merge(loaded: Loaded, running: Mapping[str, Tenant] | None) -> None:
    """Put all together. What contradicts an earlier file is refused."""
    while True:
        settings = _merged(loaded.main.settings, loaded.tenants)
        culprits: dict[str, list[str]] = {}
        for loc, sentence in cross_checks(settings):
            owner, own = _place(loaded, loc)
            culprits.setdefault(owner, []).append(line(own, sentence, {}))
        if not culprits:
            loaded.settings = settings
            return
        # Of those that contradict each other, the last one: the others were there before.
        name = next((it for it in reversed(loaded.tenants) if it in culprits), None)
        if name is None:
            raise SettingsFault(sorted(set(culprits[""])))
        again = name in loaded.refused
        loaded.refused.setdefault(name, []).extend(sorted(set(culprits[name])))
        last = None if again else _last_good(loaded.main, name, running)
        if last is None or last.equals(loaded.tenants[name]):
            del loaded.tenants[name]
        else:
            loaded.tenants[name] = last


def _merged(main: Settings, tenants: Mapping[str, Tenant]) -> Settings:
    copy = main.model_copy()
    for table in _TABLES:
        own = tuple(it for tenant in tenants.values() for it in getattr(tenant, table))
        vars(copy)[table] = (*getattr(main, table), *own)
    return copy


def _place(loaded: Loaded, loc: Loc) -> tuple[str, Loc]:
    """The tenant that a place of the merged settings belongs to, and the place in its file."""
    table, index = loc[0], loc[1] if len(loc) > 1 else None
    if table not in _TABLES or not isinstance(index, int):
        return "", loc
    index -= len(getattr(loaded.main.settings, str(table)))
    if index < 0:
        return "", loc
    for name, tenant in loaded.tenants.items():
        own = len(getattr(tenant, str(table)))
        if index < own:
            return name, (table, index, *loc[2:])
        index -= own
    return "", loc
