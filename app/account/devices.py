"""Describes a user agent for people: ``Firefox 128``, ``Windows 10``, ``desktop``. Not verified.

Uses ua-parser with the rules of uap-core, which many languages share and which are maintained since
2012. They know apps, consoles and robots as well as browsers.
"""

from functools import lru_cache
from typing import Literal

from ua_parser import parse

Kind = Literal["desktop", "phone", "tablet", "robot", "unknown"]

# Every rule scans the whole text; no browser's is longer.
_MAX_LENGTH = 512

_DESKTOPS = frozenset({"Windows", "Mac OS X", "Linux", "Ubuntu", "Debian", "Fedora", "Chrome OS",
                       "FreeBSD", "OpenBSD", "NetBSD"})  # fmt: skip
_ROBOTS = frozenset({"Spider"})


@lru_cache(maxsize=2048)
def describe(user_agent: str) -> tuple[str | None, str | None, Kind]:
    """Browser, operating system, and the kind of device; None is unknown."""
    parsed = parse(user_agent[:_MAX_LENGTH])
    browser, system, device = parsed.user_agent, parsed.os, parsed.device
    family = browser.family if browser else None
    name = system.family if system else None
    if device is not None and device.family in _ROBOTS:
        return family, name, "robot"
    kind: Kind = "unknown"
    if (device is not None and device.family == "iPad") or "Tablet" in user_agent:
        kind = "tablet"
    elif name == "Android":
        kind = "phone" if "Mobile" in user_agent else "tablet"
    elif name == "iOS":
        kind = "phone"
    elif name in _DESKTOPS:
        kind = "desktop"
    # Browsers no longer report the version of Windows and macOS, and never did that of Linux.
    version = system.major if system and name in ("Android", "iOS") else None
    return (
        _with_version(family, browser.major if browser else None),
        _with_version("macOS" if name == "Mac OS X" else name, version),
        kind,
    )


def _with_version(name: str | None, major: str | None) -> str | None:
    return f"{name} {major}" if name and major else name
