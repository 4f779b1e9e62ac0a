"""Every fault is reported at once, with the name of its setting."""

from datetime import time
from pathlib import Path
from typing import Any

import pytest

from app.config.load import SettingsFault, load
from app.config.types import seconds
from tests.config.conftest import Faults
from tests.config.example_settings import document
from tests.config.fault_cases import FAULTS


def named(lines: list[str]) -> list[str]:
    """The names of the settings in the lines."""
    return [line.partition(": ")[0] for line in lines]


@pytest.mark.parametrize(("text", "environ", "names"), FAULTS.values(), ids=FAULTS)
def test_fault(text: str, environ: dict[str, str], names: list[str], faults: Faults) -> None:
    """The lines name these settings and no others."""
    lines = faults(text, environ)
    assert named(lines) == names
    assert all(": " in line and line == line.strip() for line in lines)


def test_many_faults_in_one_file_are_reported_together(faults: Faults) -> None:
    lines = faults(
        """
listen = "everywhere"
leeway = "soon"
colour = "red"
[[issuers]]
issuer = "http://op.example"
algorithms = ["none"]
jwks_url = "https://op.example/keys"
[[issuers.clients]]
client_id = "Shop"
max_session_age = -1
[[issuers]]
issuer = "http://op.example"
allow_http = true
[[issuers.clients]]
client_id = "a"
app = "A"
""",
        {"BCL_STRICT": "perhaps", "BCL_REDIS": "redis://h", "BCL_CLIENT_ID": "b"},
    )
    assert named(lines) == sorted(
        [
            "BCL_CLIENT_ID",
            "BCL_REDIS",
            "BCL_STRICT",
            "colour",
            "issuers[0].algorithms[0]",
            "issuers[0].clients[0].app",
            "issuers[0].clients[0].max_session_age",
            "issuers[0].issuer",
            "issuers[0].jwks_url",
            "issuers[1].clients[0].app",
            "issuers[1].issuer",
            "leeway",
            "listen",
            "redis_url",
        ]
    )


@pytest.mark.parametrize(
    ("place", "line", "fault"),
    [
        ("top", 'journal_max_bytes = "1KiB"', "journal_max_bytes: must be at least 64KiB"),
        ("top", "keep_alive = 0", "keep_alive: must be at least 1s"),
        ("top", "max_in_flight = 2000000", "max_in_flight: must be at most 1000000"),
        ("issuer", 'leeway = "1h"', "issuers[0].leeway: must be at most 10m"),
        (
            "client", "max_session_age = 0",
            "issuers[0].clients[0].max_session_age: must be at least 1s",
        ),
    ],
)  # fmt: skip
def test_a_limit_is_in_the_form_of_its_setting(
    place: str, line: str, fault: str, faults: Faults
) -> None:
    assert faults(document(**{place: line})) == [fault]


def test_a_missing_setting_has_an_example(faults: Faults) -> None:
    hints = "\n".join(faults(""))
    assert "embedded" in hints
    assert "BCL_ISSUER and BCL_CLIENT_ID" in hints


DURATIONS: list[tuple[Any, float | None]] = [
    ("30d", 2592000),
    ("24h", 86400),
    ("10m", 600),
    ("90s", 90),
    ("90", 90),
    ("1.5h", 5400),
    (" 10 m ", 600),
    ("0", 0),
    (90, 90),
    (1.5, 1.5),
    (0, 0),
    ("3650d", 315360000),
    ("3651d", None),
    (315360001, None),
    (10**400, None),
    (-(10**400), None),
    (-1, None),
    ("-1s", None),
    ("+1s", None),
    ("1w", None),
    ("1H", None),
    ("1h30m", None),
    ("1,5h", None),
    ("1e3", None),
    ("", None),
    ("soon", None),
    ("infinity", None),
    (float("inf"), None),
    (float("nan"), None),
    (True, None),
    (False, None),
    (None, None),
    ([90], None),
    (time(0, 10), None),
]


@pytest.mark.parametrize(("text", "length"), DURATIONS, ids=[repr(d[0])[:20] for d in DURATIONS])
def test_duration(text: Any, length: float | None) -> None:
    """A number of seconds, or text with one unit; everything else is a fault."""
    if length is None:
        with pytest.raises(ValueError, match="a duration is"):
            seconds(text)
    else:
        assert seconds(text) == length


BAD_FILES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "cannot be read (No such file or directory)"),
    "not UTF-8": (b'issuer = "\xff"', "not UTF-8"),
    "UTF-16": ("listen = 1".encode("utf-16"), "not UTF-8"),
    "not TOML": (
        b"listen: 1\n",
        "not TOML (at line 1, column 7): Expected '=' after a key in a key/value pair",
    ),
    "cut off": (b"[[issuers", "not TOML"),
    "nested too deeply": (b"a = " + b"[" * 10_000, "not TOML"),
    "an integer of 5000 digits": (b"a = " + b"9" * 5000, "not TOML"),
    "a repeated name": (b"a = 1\na = 2\n", "not TOML (at "),
}


@pytest.mark.parametrize(("content", "sentence"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    """One fault, with the file's name and, if known, the place."""
    path = tmp_path / "settings.toml"
    if content is not None:
        path.write_bytes(content)
    for use in (lambda: load(path, {}), lambda: load(None, {"BCL_CONFIG": str(path)})):
        with pytest.raises(SettingsFault) as caught:
            use()
        (fault,) = caught.value.faults
        assert fault.startswith(f"{path}: {sentence}")


def test_a_directory_is_not_a_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsFault, match="cannot be read"):
        load(tmp_path, {})


_TWO_BRACKETS = "write [[{0}]], not [{0}]: there may be several"

MISTAKES: dict[str, tuple[str, str]] = {
    "single brackets for issuers": (
        document().replace("[[issuers]]", "[issuers]"),
        f"issuers: {_TWO_BRACKETS.format('issuers')}",
    ),
    "single brackets for clients": (
        document().replace("[[issuers.clients]]", "[issuers.clients]"),
        f"issuers[0].clients: {_TWO_BRACKETS.format('issuers.clients')}",
    ),
    "a setting below the last table": (
        document(rest='data_dir = "data"'),
        "issuers[0].clients[0].data_dir: unknown setting here; put it above the first table",
    ),
    "two listeners at one address": (
        document(top='listen = "127.0.0.1:9000"'),
        "admin_listen: is also the address of listen; give each its own port",
    ),
    "a listener on all interfaces": (
        document(top='listen = "0.0.0.0:9000"'),
        "admin_listen: is also the address of listen; give each its own port",
    ),
    "the users' listener at the operators' address": (
        document(top='account_listen = "localhost:9000"'),
        "account_listen: is also the address of admin_listen; give each its own port",
    ),
    "the embedded server at the providers' address": (
        document().replace('"redis://127.0.0.1:6379/0"', '"embedded"\nembedded_port = 8000'),
        "embedded_port: is also the address of listen; give each its own port",
    ),
}


@pytest.mark.parametrize(("text", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_common_mistake_has_its_own_sentence(text: str, line: str, faults: Faults) -> None:
    assert line in faults(text)


@pytest.mark.parametrize(
    ("text", "environ", "name"),
    [
        (document(top="workers = 2"), {}, "workers"),
        (document(), {"BCL_WORKERS": "2"}, "BCL_WORKERS"),
    ],
    ids=["file", "environment"],
)
def test_a_removed_setting_names_its_replacement(
    text: str, environ: dict[str, str], name: str, faults: Faults
) -> None:
    (line,) = faults(text, environ)
    assert line.startswith(f"{name}: was removed")
    assert "docs/deploy.md" in line


@pytest.mark.parametrize(
    "top",
    [
        'listen = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"',
        'listen = "127.0.0.1:8000"\nadmin_listen = "127.0.0.2:8000"',
    ],
    ids=["any free port", "two addresses of one machine"],
)
def test_addresses_that_do_not_overlap_are_allowed(top: str, tmp_path: Path) -> None:
    file = tmp_path / "receiver.toml"
    file.write_text(document(top=top))
    assert load(file, {}).addresses.keys() == {"listen", "admin_listen"}
