"""Translates a provider's failure into an API error."""

import contextlib
from collections.abc import Iterator

from app.sessions.api_client.path_segment import InvalidId, path_segment
from app.sessions.session_provider import SENTENCES, FaultKind, ProviderFault
from app.web.errors import ApiError, bad_request

# If the provider does not state when its rate limit ends.
_DEFAULT_WAIT = 5.0


@contextlib.contextmanager
def translated_faults() -> Iterator[None]:
    """Raise `ApiError` for a failure of the provider's adapter."""
    try:
        yield
    except InvalidId:
        raise bad_request("the provider can have nothing of this id") from None
    except ProviderFault as fault:
        raise api_error(fault) from fault


def api_error(fault: ProviderFault) -> ApiError:
    """502 if the provider refuses or fails, 504 if it is too slow, 503 if a retry is worthwhile."""
    sentence = SENTENCES[fault.kind]
    match fault.kind:
        case FaultKind.UNAUTHORIZED | FaultKind.FORBIDDEN:
            return ApiError(502, "provider_refuses", sentence)
        case FaultKind.LIMITED:
            wait = fault.retry_after if fault.retry_after is not None else _DEFAULT_WAIT
            return ApiError(503, "provider_limits", sentence, retry_after=wait)
        case FaultKind.UNAVAILABLE if fault.detail == "timeout":
            return ApiError(504, "provider_timeout", sentence)
        case FaultKind.UNAVAILABLE:
            return ApiError(502, "provider_unavailable", sentence)
        case _:
            return ApiError(502, "provider_unexpected", sentence)


def provider_id(value: str) -> str:
    """An id that a provider could have issued. Raises `ApiError`."""
    try:
        path_segment(value)
    except InvalidId as error:
        raise bad_request(f"{error}") from None
    return value
