"""Reads the settings file and ``BCL_*`` variables; the environment takes precedence.

`load_main` reports every fault at once, with the name of the setting and never with a value, which
may be a secret.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.config.base import Loc, Table, nested_table
from app.config.cross_checks import cross_checks
from app.config.inheritance import resolved
from app.config.model import Settings
from app.config.session_api import add_client_ids_of_kratos
from app.config.types import Form
from app.formatting import duration, size

DEFAULT_DIR = "receiver.d"
"""Next to the settings file."""

ENV_PREFIX = "BCL_"
CONFIG_VARIABLE = "BCL_CONFIG"

# One issuer with one client needs no file: these set issuers[0] and its one client.
SHORT_ISSUER = ("issuer", "preset", "jwks_uri", "aliases")
SHORT_CLIENT = ("client_id", "app")
TABLES = frozenset({"issuers", "canary", "account_apps", "admin_oidc"})
_TOP_LEVEL = {*Settings.model_fields, *SHORT_ISSUER, *SHORT_CLIENT}

# Messages of the TOML parser that quote nothing of the file.
_QUOTES_NOTHING = re.compile(r"[A-Za-z /-]+|Expected '=' after a key in a key/value pair")

_REMOVED: Mapping[int | str, str] = {
    "workers": "was removed: a receiver is one process. For more, run several receivers on one "
    "Redis, as pods, with a systemd template unit or compose --scale (docs/deploy.md)",
}
"""Settings of earlier versions, each with its replacement."""

_HINTS: Mapping[int | str, str] = {
    "issuers": " (an [[issuers]] table, or BCL_ISSUER and BCL_CLIENT_ID)",
    "redis_url": ' (such as redis://127.0.0.1:6379/0, or "embedded" for a local trial)',
}


class SettingsFault(Exception):
    """The settings cannot be used; ``faults`` has a line for each fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class MainFile:
    """The settings file with the environment over it. ``raw`` is as written."""

    path: Path | None
    raw: dict[str, Any]
    settings: Settings


def load_main(
    path: Path | None, environ: Mapping[str, str], tenants_dir: Path | None = None
) -> MainFile:
    """Read the file (``path``, else ``BCL_CONFIG``, else none) and the environment.

    ``tenants_dir`` replaces the setting. Raises `SettingsFault` with every fault.
    """
    if path is None and environ.get(CONFIG_VARIABLE):
        path = Path(environ[CONFIG_VARIABLE])
    raw = read_file(path) if path is not None else {}
    faults, spelling = _overlay(raw, environ)
    if tenants_dir is not None:
        raw["tenants_dir"] = str(tenants_dir)
    elif path is not None and "tenants_dir" not in raw and (path.parent / DEFAULT_DIR).is_dir():
        raw["tenants_dir"] = str(path.parent / DEFAULT_DIR)
    _expand_short_form(raw, spelling, faults)
    settings = validated(raw, spelling, faults)
    if not raw.get("issuers") and settings.get("tenants_dir") is None:
        faults.append(f"issuers: is required{_HINTS['issuers']}")
    if faults:
        raise SettingsFault(sorted(set(faults)))
    return MainFile(path, raw, settings)


def validated(raw: dict[str, Any], spelling: Mapping[str, str], faults: list[str]) -> Settings:
    """The typed settings, with a line for each fault added to ``faults``."""
    add_client_ids_of_kratos(raw)
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        faults += _lines(error, raw, spelling)
        settings = Settings.valid_part(raw)
    settings = resolved(settings)
    faults += [line(loc, sentence, spelling) for loc, sentence in cross_checks(settings)]
    return settings


def read_file(path: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises `SettingsFault`."""
    try:
        return parse(path, path.read_text("utf-8"))
    except OSError as error:
        raise SettingsFault([f"{path}: cannot be read ({error.strerror})"]) from None
    except UnicodeDecodeError:
        raise SettingsFault([f"{path}: not UTF-8"]) from None


def parse(path: Path, text: str) -> dict[str, Any]:
    """Parse TOML. Raises `SettingsFault`."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise SettingsFault([f"{path}: not TOML (nested too deeply)"]) from None
    except ValueError as error:
        # The parser's message may quote the text at the fault, which may be a secret. It is a plain
        # ValueError for a NUL in the path, and for an integer of thousands of digits.
        match = re.fullmatch(
            r"(.*?) ?(\(at (?:line \d+, column \d+|end of document)\))", str(error)
        )
        where = f" {match[2]}" if match else ""
        why = f": {match[1]}" if match and _QUOTES_NOTHING.fullmatch(match[1]) else ""
        raise SettingsFault([f"{path}: not TOML{where}{why}"]) from None


def unknown(name: str) -> str:
    """The sentence for a name that is no setting of a table at the top level."""
    return _REMOVED.get(name, "unknown setting")


def _overlay(raw: dict[str, Any], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Put ``BCL_*`` over the file. Returns faults, and the variable of each setting from there."""
    faults: list[str] = []
    spelling: dict[str, str] = {}
    for variable in sorted(environ):
        name = variable.removeprefix(ENV_PREFIX).lower()
        if not variable.startswith(ENV_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        if name not in _TOP_LEVEL - TABLES or variable != f"{ENV_PREFIX}{name.upper()}":
            faults.append(f"{variable}: {_REMOVED.get(name, 'unknown setting')}")
            continue
        raw[name] = environ[variable]
        spelling[name] = variable
    return faults, spelling


def _expand_short_form(raw: dict[str, Any], spelling: dict[str, str], faults: list[str]) -> None:
    """Turn ``issuer``, ``client_id``, ... of the top level into one issuer with one client."""
    short = [name for name in (*SHORT_ISSUER, *SHORT_CLIENT) if name in raw]
    if not short:
        return
    if "issuers" in raw:
        for name in short:
            faults.append(line((name,), "conflicts with [[issuers]]; set it there", spelling))
            del raw[name]
        return
    client = {name: raw.pop(name) for name in SHORT_CLIENT if name in raw}
    issuer = {name: raw.pop(name) for name in SHORT_ISSUER if name in raw}
    raw["issuers"] = [{**issuer, "clients": [client]}]
    from_environment = not raw.keys() - spelling.keys() - {"issuers"}
    for name in (*SHORT_ISSUER, *SHORT_CLIENT):
        missing = ENV_PREFIX + name.upper() if from_environment else name
        place = f"issuers[0].{name}" if name in SHORT_ISSUER else f"issuers[0].clients[0].{name}"
        spelling[place] = spelling.get(name, name if name in short else missing)


def _lines(error: ValidationError, raw: Any, spelling: Mapping[str, str]) -> list[str]:
    details = error.errors(include_url=False, include_input=False)
    return [
        line(detail["loc"], _sentence(raw, detail), spelling)
        for detail in details
        if detail["type"] != "too_short" or not _has_faulty_items(detail["loc"], details)
    ]


def line(loc: Loc, sentence: str, spelling: Mapping[str, str]) -> str:
    """A fault for operators, by the name of the setting."""
    name = ""
    for part in loc:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return f"{spelling.get(name, name)}: {sentence}"


def _sentence(raw: Any, detail: Any) -> str:
    """Pydantic's message without its jargon, with help for the usual mistakes in TOML."""
    loc: Loc = detail["loc"]
    match detail["type"]:
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
        case "greater_than_equal":
            return f"must be at least {_limit(loc, detail['ctx']['ge'])}"
        case "less_than_equal":
            return f"must be at most {_limit(loc, detail['ctx']['le'])}"
        case _:
            return str(detail["msg"]).removeprefix("Value error, ")


def _limit(loc: Loc, limit: float) -> str:
    """A limit in the form of the setting at this place."""
    table: type[Table] | None = Settings
    form = ""
    for name in (part for part in loc if isinstance(part, str)):
        if table is None or name not in table.model_fields:
            return f"{limit:g}"
        field = table.model_fields[name]
        form = next((item.text for item in field.metadata if isinstance(item, Form)), "")
        table = nested_table(field)
    if form == "duration":
        return duration(limit)
    return size(int(limit)) if form == "size" else str(limit)


def _value_at(raw: Any, loc: Loc) -> Any:
    try:
        for part in loc:
            raw = raw[part]
    except (KeyError, IndexError, TypeError):
        return None  # pydantic puts its own name of an alternative into the place
    return raw


def _has_faulty_items(loc: Loc, details: list[Any]) -> bool:
    """Whether a list is only too short because its items have faults of their own."""
    return any(other["loc"][: len(loc)] == loc and other["loc"] != loc for other in details)
