"""Validates ``settings.BACKCHANNEL_LOGOUT`` and reports every fault at once."""

from collections.abc import Callable, Mapping
from typing import Any

# Django has no types.
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]
from django.utils.functional import Promise  # type: ignore[import-untyped]

from backchannel_logout.contract.keys import AppKeys
from backchannel_logout.redis import connection


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_above_zero(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_redis_url(value: object) -> bool:
    try:
        connection.check_url(str(value))
    except (ValueError, TypeError):
        return False
    return _is_text(value)


def _is_app_name(value: object) -> bool:
    try:
        AppKeys(str(value))
    except ValueError:
        return False
    return _is_text(value)


def _are_names(value: object) -> bool:
    return (
        isinstance(value, list | tuple | set | frozenset)
        and bool(value)
        and all(map(_is_text, value))
    )


# Values are never in a message: a URL can contain a password.
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "redis": (_is_redis_url, "must be the URL of the receiver's Redis"),
    "app": (_is_app_name, "must be the app's name in the receiver's settings"),
    "login_url": (
        lambda value: value is None or isinstance(value, str | Promise),
        "must be a path, a URL, or the name of one",
    ),
    "signed_in": (
        lambda value: _is_text(value) or callable(value),
        "must be the name of a session member, or a function of the session",
    ),
    "backends": (
        _are_names,
        "must be a list of authentication backends, as in AUTHENTICATION_BACKENDS",
    ),
    "on_unidentified": (lambda value: value in ("end", "allow"), 'must be "end" or "allow"'),
    "on_outage": (lambda value: value in ("deny", "allow"), 'must be "deny" or "allow"'),
    "timeout": (_is_above_zero, "must be a number of seconds above 0"),
    "max_session_age": (
        lambda value: value is None or (isinstance(value, int) and _is_above_zero(value)),
        "must be a whole number of seconds above 0",
    ),
    "near_cache": (
        lambda value: isinstance(value, int) and value >= 0,
        "must be True, False, or a number of sessions",
    ),
    "max_stale": (_is_above_zero, "must be a number of seconds above 0"),
}


def read_options(given: object) -> dict[str, Any]:
    """The options, unchanged. Raises ``ImproperlyConfigured`` with every fault at once."""
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(
            'BACKCHANNEL_LOGOUT must be a dict, such as {"redis": "redis://...", "app": "shop"}'
        )
    faults = [f"{name!r} is not an option" for name in given if name not in _RULES]
    faults += [f"{name!r} is missing" for name in ("redis", "app") if name not in given]
    if "signed_in" in given and "backends" in given:
        faults.append("'signed_in' and 'backends' are alternatives: use one of them")
    faults += [
        f"{name!r} {sentence}"
        for name, (is_right, sentence) in _RULES.items()
        if name in given and not is_right(given[name])
    ]
    if faults:
        raise ImproperlyConfigured(f"BACKCHANNEL_LOGOUT: {'; '.join(faults)}")
    return dict(given)
