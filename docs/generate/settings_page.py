"""Writes docs/settings.md from the model: ``make settings``.

A setting's meaning is the docstring below its field. A last sentence that begins with "Default:"
describes a default that depends on something else.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from itertools import pairwise
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.config.account import AccountApp
from app.config.admin_oidc import AdminOidcSettings
from app.config.base import Table
from app.config.canary import CanarySettings
from app.config.issuers import ClientOptions, ClientSettings, IssuerOptions, IssuerSettings
from app.config.main_file import ENV_PREFIX, SHORT_CLIENT, SHORT_ISSUER, TABLES
from app.config.model import Settings
from app.config.session_api import SessionsSettings
from app.config.types import Durability, Form
from app.formatting import duration, size

_HEAD = """# Settings

Written from [app/config](../app/config/__init__.py) by `make settings`.

Settings come from a TOML file (`--config`, or `BCL_CONFIG`) and from environment variables, which
take precedence. `python -m app check` reports every fault at once; an unknown setting is one.

* A *duration* is a number of seconds, or text such as `90s`, `10m`, `24h` or `30d`.
* A *size* is a number of bytes, or text such as `64KiB`, `256MiB` or `1GiB`.
* A *list* is an array in TOML, and text with commas in a variable.
* Keys are fetched over https, or over http from loopback. A private certificate authority goes into
  `SSL_CERT_FILE`.

One issuer with one client needs no file: the variables `BCL_ISSUER`, `BCL_CLIENT_ID`, `BCL_APP`,
`BCL_PRESET`, `BCL_JWKS_URI` and `BCL_ALIASES` set `issuers[0]` and its client. The same names also
work at the top level of a file without `[[issuers]]`.
"""


class _Section(NamedTuple):
    title: str
    intro: str
    tables: tuple[type[Table], ...]
    """Their own fields only, not those of their bases."""
    variables: frozenset[str] = frozenset()
    """Names that an environment variable can set."""


_SECTIONS = (
    _Section("Top level", "", (Settings,), frozenset(Settings.model_fields) - TABLES),
    _Section(
        "`[[issuers]]`",
        "A provider. Its variables are for the short form.",
        (IssuerSettings,),
        frozenset(SHORT_ISSUER),
    ),
    _Section(
        "Options of an issuer",
        "In `[[issuers]]`, or at the top level as the default for every issuer.",
        (IssuerOptions,),
        frozenset(IssuerOptions.model_fields),
    ),
    _Section(
        "`[[issuers.clients]]`",
        "An OAuth client of the issuer. Its variables are for the short form.",
        (ClientSettings,),
        frozenset(SHORT_CLIENT),
    ),
    _Section(
        "Options of a client",
        "In `[[issuers.clients]]`, or at the top level as the default for every client.",
        (ClientOptions,),
        frozenset(ClientOptions.model_fields),
    ),
    _Section("`[issuers.sessions]`", "The provider's session API.", (SessionsSettings,)),
    _Section("`[[account_apps]]`", "An app that may use `account_listen`.", (AccountApp,)),
    _Section("`[admin_oidc]`", "Sign-in to the console.", (AdminOidcSettings,)),
    _Section("`[canary]`", "The receiver's own test session.", (CanarySettings,)),
)


def page() -> str:
    """The whole document."""
    return "\n".join([_HEAD, *(line for section in _SECTIONS for line in _lines(section))])


def _lines(section: _Section) -> Iterator[str]:
    yield f"## {section.title}\n"
    if section.intro:
        yield f"{section.intro}\n"
    with_variables = bool(section.variables)
    columns = ["setting", "form", "default", *(["variable"] * with_variables), "meaning"]
    yield f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    for table in section.tables:
        hints, meanings = get_type_hints(table, include_extras=True), field_docstrings(table)
        for name, text in meanings.items():
            field, hint = table.model_fields[name], hints[name]
            meaning, _, described_default = text.partition(" Default: ")
            form = _form(hint)
            default = described_default.removesuffix(".") or _value(field.default, form)
            if field.is_required():
                default = "**required**"
            cells = [f"`{name}`", form + _limits(hint, form), default]
            if with_variables:
                cells.append(f"`{ENV_PREFIX}{name.upper()}`" if name in section.variables else "")
            yield f"| {' | '.join([*cells, meaning])} |"
    yield ""


def field_docstrings(table: type[Table]) -> dict[str, str]:
    """The docstring of each field of the class itself, on one line, as Markdown."""
    (body,) = ast.parse(inspect.getsource(table)).body
    statements = body.body if isinstance(body, ast.ClassDef) else []
    return {
        field.target.id: " ".join(doc.value.value.replace("``", "`").split())
        for field, doc in pairwise(statements)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(doc, ast.Expr)
        and isinstance(doc.value, ast.Constant)
        and isinstance(doc.value.value, str)
    }


def _form(hint: Any) -> str:
    """How the values of a type are written, without their limits."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        form = next((m.text for m in hint.__metadata__ if isinstance(m, Form)), None)
        return form or _form(hint.__origin__)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin is tuple:
        return "tables" if _is_table(args[0]) else f"list of {_plural(_form(args[0]))}"
    if NoneType in args:
        return _form(args[0])
    if _is_table(hint):
        return "table"
    forms: dict[Any, str] = {bool: "`true`, `false`", int: "number", str: "text", SecretStr: "text"}
    return forms[hint]


def _plural(form: str) -> str:
    return form if form == "text" else f"{form}s"


def _is_table(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, Table)


def _limits(hint: Any, form: str) -> str:
    infos = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, FieldInfo)]
    limits = [limit for info in infos for limit in info.metadata]
    low = next((_value(limit.ge, form) for limit in limits if isinstance(limit, Ge)), None)
    high = next((_value(limit.le, form) for limit in limits if isinstance(limit, Le)), None)
    if low and high:
        return f", {low} to {high}"
    return f", {low} or more" if low else f", up to {high}" if high else ""


def _value(value: Any, form: str) -> str:
    """A value as the file has it; "none" for an empty one."""
    match value:
        case bool():
            text = str(value).lower()
        case None | "" | ():
            return "none"
        case (str(host), int(port)) if form == "`host:port`":
            text = f"{host}:{port}"
        case Durability():
            text = value.level
        case tuple():
            text = ", ".join(value)
        case int() | float() if form == "duration":
            text = duration(value)
        case int() if form == "size":
            text = size(value)
        case _:
            text = str(value)
    return f"`{text}`"


if __name__ == "__main__":
    sys.stdout.write(page())
