"""What a provider's fault is to who has asked us for its sessions."""

import contextlib
from collections.abc import Iterator

from app.sessions.api_client.path_segment import InvalidId
from app.sessions.session_provider import SENTENCES, FaultKind, ProviderFault
from app.web.errors import ApiFault, bad_request

# Where it does not say how long its limit lasts.
_UNKNOWN_WAIT = 5.0


@contextlib.contextmanager
def as_answers() -> Iterator[None]:
    """Raises `ApiFault` for what the provider's adapter raises."""
    try:
        yield
    except InvalidId:
        raise bad_request("the provider can have nothing of this id") from None
    except ProviderFault as fault:
        raise to_answer(fault) from fault


def to_answer(fault: ProviderFault) -> ApiFault:
    """502 where the provider refuses us, fails or says nonsense, 504 where it is too slow, and 503
    where it is worth coming back."""
    sentence = SENTENCES[fault.kind]
    match fault.kind:
        case FaultKind.UNAUTHORIZED | FaultKind.FORBIDDEN:
            return ApiFault(502, "provider_refuses", sentence)
        case FaultKind.LIMITED:
            wait = fault.retry_after if fault.retry_after is not None else _UNKNOWN_WAIT
            return ApiFault(503, "provider_limits", sentence, retry_after=wait)
        case FaultKind.UNAVAILABLE if fault.detail == "timeout":
            return ApiFault(504, "provider_timeout", sentence)
        case FaultKind.UNAVAILABLE:
            return ApiFault(502, "provider_unavailable", sentence)
        case _:
            return ApiFault(502, "provider_unexpected", sentence)
