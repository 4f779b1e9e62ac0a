"""Events that no handler could process: entries of the stream ``app:dead-letters``. Pure.

An entry has the event's own fields and four more. It contains what the event contains: users' names
at their provider. Only the app removes entries.
"""

from backchannel_logout.listening.inflight import Delivery


def dead_letter(delivery: Delivery, listener: str) -> list[bytes]:
    """Names and values in turn: the fields of the event, and

    ``dl_event``     the id of its entry in ``events``
    ``dl_listener``  the listener's name
    ``dl_tries``     how often a handler has started on it
    ``dl_error``     the type of the last exception, without its text
    """
    more = {
        "dl_event": delivery.acks[0],
        "dl_listener": listener,
        "dl_tries": str(delivery.tries),
        "dl_error": delivery.error,
    }
    return [*delivery.fields, *(text.encode() for pair in more.items() for text in pair)]
