"""What an operator may say: a TOML file and ``BCL_*`` variables; environment wins.

`load` reports every fault at once, each with the name of its setting and never with a value:
a value may be a secret. `settings_model` and `settings_issuers` have the settings themselves,
`settings_values` their types, `settings_rules` what must hold across them.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.config.account import account_faults, shared_tokens
from app.config.admin_oidc import admin_faults
from app.config.canary import canary_faults
from app.config.cross_checks import Fault, address_faults, faults_across
from app.config.issuers import (
    ClientOptions,
    ClientSettings,
    IssuerOptions,
    IssuerSettings,
    Model,
)
from app.config.model import Settings
from app.config.presets import presets
from app.config.session_api import Secret, SessionsSettings, session_faults, with_clients_of_kratos

__all__ = [
    "ClientOptions",
    "ClientSettings",
    "IssuerOptions",
    "IssuerSettings",
    "Settings",
    "SettingsFault",
    "load",
]

ENV_PREFIX = "BCL_"
CONFIG_VARIABLE = "BCL_CONFIG"

# One issuer with one client needs no file: these stand for issuers[0] and its one client.
_SHORT_ISSUER = ("issuer", "preset", "jwks_uri", "aliases")
_SHORT_CLIENT = ("client_id", "app")
_TOP_LEVEL = frozenset(Settings.model_fields) | {*_SHORT_ISSUER, *_SHORT_CLIENT}
_IN_ENVIRONMENT = _TOP_LEVEL - {"issuers", "canary", "account_apps", "admin_oidc"}


# Of the TOML parser's messages those that hold nothing of the file.
_QUOTES_NOTHING = re.compile(r"[A-Za-z /-]+|Expected '=' after a key in a key/value pair")


class SettingsFault(Exception):
    """The settings can not be used; ``faults`` holds a line for each fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the file (``path``, else ``BCL_CONFIG``, else none) and the environment.

    Raises `SettingsFault` with every fault that was found.
    """
    if path is None and environ.get(CONFIG_VARIABLE):
        path = Path(environ[CONFIG_VARIABLE])
    raw = _read_file(path) if path is not None else {}
    faults, shown = _overlay(raw, environ)
    _expand_short_form(raw, shown, faults)
    with_clients_of_kratos(raw)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        for detail in details:
            if detail["type"] == "too_short" and _is_echo(detail["loc"], details):
                continue
            sentence = _plain(raw, detail["loc"], detail["type"], detail["msg"])
            faults.append(_line(detail["loc"], sentence, shown))
    across: tuple[Fault, ...] = (
        *faults_across(raw), *session_faults(raw), *canary_faults(raw), *account_faults(raw),
        *admin_faults(raw),
    )  # fmt: skip
    if settings is not None:
        across += (*shared_tokens(settings.account_apps), *address_faults(settings.addresses))
    faults += [_line(loc, sentence, shown) for loc, sentence in across]
    if faults or settings is None:
        raise SettingsFault(sorted(set(faults)))
    return _resolve(settings)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsFault([f"{path}: can not be read ({error.strerror})"]) from None
    except UnicodeDecodeError:
        raise SettingsFault([f"{path}: not UTF-8"]) from None
    except RecursionError:
        raise SettingsFault([f"{path}: not TOML (nested too deeply)"]) from None
    except ValueError as error:
        # The parser's message may quote the text at the fault, which may be a secret. Plain
        # ValueErrors: a NUL in the path, an integer of thousands of digits.
        said = re.fullmatch(r"(.*?) ?(\(at (?:line \d+, column \d+|end of document)\))", str(error))
        where = f" {said[2]}" if said else ""
        why = f": {said[1]}" if said and _QUOTES_NOTHING.fullmatch(said[1]) else ""
        raise SettingsFault([f"{path}: not TOML{where}{why}"]) from None


def _overlay(raw: dict[str, Any], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Put ``BCL_*`` over the file; returns faults, and how to show the settings it set."""
    faults: list[str] = []
    shown: dict[str, str] = {}
    for variable in sorted(environ):
        name = variable.removeprefix(ENV_PREFIX).lower()
        if not variable.startswith(ENV_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        if name not in _IN_ENVIRONMENT or variable != f"{ENV_PREFIX}{name.upper()}":
            faults.append(f"{variable}: {_REMOVED.get(name, 'unknown setting')}")
            continue
        raw[name] = environ[variable]
        shown[name] = variable
    return faults, shown


def _expand_short_form(raw: dict[str, Any], shown: dict[str, str], faults: list[str]) -> None:
    """Turn ``issuer``, ``client_id``, ... of the top level into one issuer with one client."""
    short = [name for name in (*_SHORT_ISSUER, *_SHORT_CLIENT) if name in raw]
    if not short:
        return
    if "issuers" in raw:
        for name in short:
            faults.append(_line((name,), "stands beside [[issuers]]; say it there", shown))
            del raw[name]
        return
    client = {name: raw.pop(name) for name in _SHORT_CLIENT if name in raw}
    issuer = {name: raw.pop(name) for name in _SHORT_ISSUER if name in raw}
    raw["issuers"] = [{**issuer, "clients": [client]}]
    from_environment = not raw.keys() - shown.keys() - {"issuers"}
    for name in (*_SHORT_ISSUER, *_SHORT_CLIENT):
        missing = ENV_PREFIX + name.upper() if from_environment else name
        spelled = shown.get(name, name if name in short else missing)
        place = f"issuers[0].{name}" if name in _SHORT_ISSUER else f"issuers[0].clients[0].{name}"
        shown[place] = spelled


def _line(loc: tuple[int | str, ...], sentence: str, shown: Mapping[str, str]) -> str:
    name = ""
    for part in loc:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return f"{shown.get(name, name)}: {sentence}"


def _plain(raw: Mapping[str, Any], loc: tuple[int | str, ...], kind: str, message: str) -> str:
    """The library's message without its jargon, and the mistake that TOML makes easy."""
    match kind:
        case "missing":
            return f"is required{_HINTS.get(loc[-1], '')}"
        case "extra_forbidden" if len(loc) > 1 and loc[-1] in _TOP_LEVEL:
            return "unknown setting here; put it above the first table"
        case "extra_forbidden" if len(loc) == 1:
            return _REMOVED.get(loc[0], "unknown setting")
        case "extra_forbidden":
            return "unknown setting"
        case "tuple_type" if isinstance(_value_at(raw, loc), dict):
            name = ".".join(part for part in loc if isinstance(part, str))
            return f"write [[{name}]], not [{name}]: there may be several"
        case _:
            return message.removeprefix("Value error, ")


def _value_at(raw: Any, loc: tuple[int | str, ...]) -> Any:
    try:
        for part in loc:
            raw = raw[part]
    except (KeyError, IndexError, TypeError):
        return None  # the library's own name for an alternative stands in the place
    return raw


def _is_echo(loc: tuple[int | str, ...], details: list[Any]) -> bool:
    """Whether a list is only short because its items have faults of their own."""
    return any(other["loc"][: len(loc)] == loc and other["loc"] != loc for other in details)


_REMOVED: dict[int | str, str] = {
    "workers": "was removed: a receiver is one process. For more, run several receivers on one "
    "Redis, as pods, with a systemd template unit or compose --scale (docs/deploy.md)",
}
"""Settings of earlier versions, each with its replacement."""

_HINTS: dict[int | str, str] = {
    "issuers": " (an [[issuers]] table, or BCL_ISSUER and BCL_CLIENT_ID)",
    "redis_url": ' (such as redis://127.0.0.1:6379/0, or "embedded" to try things out)',
}


def _by_preset(issuer: IssuerSettings) -> dict[str, Any]:
    if issuer.preset is None or "algorithms" in issuer.model_fields_set:
        return {}
    return {"algorithms": presets()[issuer.preset].algorithms}


def _resolve(settings: Settings) -> Settings:
    """Hand the top level's options down to the issuers and clients that do not say their own.

    Below both stands what an issuer's preset says.
    """

    def inherited(options: type[Model], own: Model) -> dict[str, Any]:
        names = options.model_fields.keys() & settings.model_fields_set - own.model_fields_set
        return {name: getattr(settings, name) for name in names}

    issuers = tuple(
        issuer.model_copy(
            update={
                **_by_preset(issuer),
                **inherited(IssuerOptions, issuer),
                "sessions": _with_secret(issuer.sessions, settings.sessions_secret),
                "clients": tuple(
                    client.model_copy(
                        update={
                            **inherited(ClientOptions, client),
                            "app": client.app or client.client_id,
                        }
                    )
                    for client in issuer.clients
                ),
            }
        )
        for issuer in settings.issuers
    )
    return settings.model_copy(update={"issuers": issuers})


def _with_secret(
    sessions: SessionsSettings | None, secret: Secret | None
) -> SessionsSettings | None:
    if sessions is None or secret is None or sessions.the_secret is not None:
        return sessions
    return sessions.model_copy(update={"secret": secret})
