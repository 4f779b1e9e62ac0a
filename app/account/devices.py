"""A user agent, for people: ``Firefox 128``, ``Windows 10``, ``desktop``. Not verified by anybody.

By ua-parser with the rules of uap-core: maintained since 2012 for every language, they know apps,
consoles and robots as well as browsers.
"""

from functools import lru_cache
from typing import Literal

from ua_parser import parse

Kind = Literal["desktop", "phone", "tablet", "robot", "unknown"]

# What is longer is no browser's, and every rule would look at all of it.
_LONGEST = 512

_DESKTOPS = frozenset({"Windows", "Mac OS X", "Linux", "Ubuntu", "Debian", "Fedora", "Chrome OS",
                       "FreeBSD", "OpenBSD", "NetBSD"})  # fmt: skip
_ROBOTS = frozenset({"Spider"})


@lru_cache(maxsize=2048)
def described(user_agent: str) -> tuple[str | None, str | None, Kind]:
    """Browser and system, None where they are not known, and what kind of device it is."""
    found = parse(user_agent[:_LONGEST])
    browser, system, device = found.user_agent, found.os, found.device
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
    shown = _with_version(family, browser.major if browser else None)
    # Windows and macOS no longer say their version to websites, Linux never did.
    version = system.major if system and name in ("Android", "iOS") else None
    return shown, _with_version("macOS" if name == "Mac OS X" else name, version), kind


def _with_version(name: str | None, major: str | None) -> str | None:
    return f"{name} {major}" if name and major else name
