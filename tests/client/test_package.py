"""What relying apps may depend on: the public names, and the package's own dependencies."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

import backchannel_logout

CLIENT = Path(__file__).parents[2] / "clients/python"

PUBLIC = {
    "AppKeys",
    "AsyncListener",
    "AsyncSessionGuard",
    "Event",
    "EventKind",
    "Gap",
    "GapReason",
    "GuardMisconfigured",
    "Listener",
    "MalformedEvent",
    "Outcome",
    "Proof",
    "Reader",
    "ReaderKind",
    "Receipt",
    "RevocationUnknown",
    "Session",
    "SessionGuard",
    "SessionNotIdentified",
    "AppStatus",
    "UnknownEvent",
    "Verdict",
    "decide",
    "digest",
    "marker_keys",
    "prove",
    "remember",
}


def test_the_public_names_are_these() -> None:
    """A removed name breaks relying apps; an added one is a promise."""
    assert set(backchannel_logout.__all__) == PUBLIC
    assert all(getattr(backchannel_logout, name).__doc__ for name in PUBLIC)
    with pytest.raises(AttributeError, match="nope"):
        backchannel_logout.nope  # noqa: B018


def test_it_depends_on_redis_alone() -> None:
    """In its metadata and its imports; a framework's module imports its framework, and hiredis is
    used if it is installed."""
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text("utf-8"))["project"]
    assert [one.partition(">")[0] for one in project["dependencies"]] == ["redis"]
    frameworks = {
        "django.py": {"django", "asgiref"}, "django_options.py": {"django"}, "flask.py": {"flask"},
        "pipeline.py": {"hiredis"},
    }  # fmt: skip
    imported = set()
    for module in (CLIENT / "backchannel_logout").rglob("*.py"):
        found = set()
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
        imported |= found - frameworks.get(module.name, set())
    assert imported - sys.stdlib_module_names == {"redis", "backchannel_logout"}


def test_it_has_type_hints_and_no_module_called_app() -> None:
    """Relying apps use the name `app` themselves."""
    assert (CLIENT / "backchannel_logout" / "py.typed").exists()
    assert not list(CLIENT.glob("**/app*"))


def test_a_misconfigured_guard_is_also_an_unknown_revocation() -> None:
    """An app that answers 503 for one does so for the other."""
    assert issubclass(backchannel_logout.GuardMisconfigured, backchannel_logout.RevocationUnknown)
