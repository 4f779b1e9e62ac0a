"""Any file and any environment result in settings or faults, never in another exception."""

import json
from datetime import date, datetime, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.config.load import SettingsFault, load
from app.config.model import Settings

NAMES = [*Settings.model_fields, "issuer", "aliases", "jwks_uri", "clients", "client_id", "app"]

texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["https://op.example/", "http://localhost", "redis://h", "embedded", "30d", "shop", "RS256"]
)
scalars = (
    texts
    | st.integers()
    | st.integers(min_value=10**300, max_value=10**400)
    | st.floats()
    | st.booleans()
    | st.datetimes()
    | st.dates()
    | st.times()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | texts, inner, max_size=5)
    ),
    max_leaves=12,
)


def table(**required: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A table with these settings, and with up to three others of any value."""
    others = st.dictionaries(st.sampled_from(NAMES) | texts, values, max_size=3)
    return st.builds(lambda more, own: more | own, others, st.fixed_dictionaries(required))


clients = table(client_id=texts)
issuers = table(issuer=texts, clients=st.lists(clients, max_size=3))
documents = table() | table(redis_url=st.just("redis://h"), issuers=st.lists(issuers, max_size=3))
variables = st.sampled_from([*(f"BCL_{name.upper()}" for name in NAMES), "BCL_X", "PATH", "BCL_"])
environments = st.dictionaries(variables, texts, max_size=4)


def toml(value: Any) -> str:
    """A value as TOML, with inline tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return repr(value)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@pytest.mark.slow
@given(document=documents, environ=environments)
@hypothesis_settings(max_examples=200, deadline=None)
def test_any_settings_load_or_are_faults(
    document: dict[str, Any], environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Settings or `SettingsFault`, never another exception."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("\n".join(f"{quoted(k)} = {toml(v)}" for k, v in document.items()), "utf-8")
    environ.pop("BCL_CONFIG", None)
    try:
        result = load(path, environ)
    except SettingsFault as fault:
        result = fault
    assert isinstance(result, Settings) or result.faults


@given(content=st.binary(max_size=60) | texts.map(lambda text: f"listen = {text}".encode()))
@hypothesis_settings(max_examples=150, deadline=None)
def test_any_file_loads_or_is_a_fault(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsFault):
        load(path, {})
