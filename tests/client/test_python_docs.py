"""docs/python.md: its blocks run, and it names each option of the package."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from backchannel_logout import AsyncListener, AsyncSessionGuard, SessionGuard
from backchannel_logout.asgi import BackchannelLogoutMiddleware as AsgiMiddleware
from backchannel_logout.django_options import _RULES, read_options
from backchannel_logout.flask import BackchannelLogout
from backchannel_logout.gate import LOOP_COOKIE
from backchannel_logout.wsgi import BackchannelLogoutMiddleware as WsgiMiddleware
from tests.support.receiver import ROOT

PAGE = (ROOT / "docs/python.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_the_page_runs(block: str) -> None:
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102  our own documentation
    if "BACKCHANNEL_LOGOUT" in names:
        assert read_options(names["BACKCHANNEL_LOGOUT"]) == names["BACKCHANNEL_LOGOUT"]


def options(callable_: Callable[..., object]) -> set[str]:
    parameters = inspect.signature(callable_).parameters.values()
    return {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}


@pytest.mark.parametrize("guard", [SessionGuard, AsyncSessionGuard])
def test_the_page_lists_each_option_of_a_guard_with_its_default(guard: type) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section("Guards"), re.MULTILINE))
    assert set(rows) == options(guard)
    for name, parameter in inspect.signature(guard).parameters.items():
        if isinstance(parameter.default, float | str):
            assert str(parameter.default) in rows[name].replace('"', "")


def test_the_page_lists_each_option_of_a_listener() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section("Listeners"), re.MULTILINE)
    assert set(rows) == options(AsyncListener)


@pytest.mark.parametrize("middleware", [AsgiMiddleware, WsgiMiddleware, BackchannelLogout])
def test_the_page_names_each_option_of_a_middleware(middleware: type) -> None:
    named = set(re.findall(r"`(\w+)`", section("Middlewares")))
    assert options(middleware) - {"guard"} <= named


def test_the_page_names_each_option_of_django() -> None:
    paragraph = section("Middlewares").partition("Django's options")[2]
    assert set(_RULES) <= set(re.findall(r"`(\w+)`", paragraph))


def test_the_page_names_what_is_reserved() -> None:
    assert f"`{LOOP_COOKIE}`" in section("Reserved names")
