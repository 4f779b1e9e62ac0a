"""An event that no handler could take: an entry of the stream ``app:dead-letters``. Pure.

The event's own fields stand there as they were, with four more. They hold what the event holds:
users' names at their provider. Nobody but the app removes them.
"""

from backchannel_logout.listening.deliveries import Delivery


def dead_letter(delivery: Delivery, listener: str) -> list[bytes]:
    """Fields and values in turn: those of the event, and

    ``dl_event``     the id of its entry in ``events``
    ``dl_listener``  the listener's name
    ``dl_tries``     how often a handler has begun with it
    ``dl_error``     the type of the last exception; nothing of what it says
    """
    more = {
        "dl_event": delivery.acks[0],
        "dl_listener": listener,
        "dl_tries": str(delivery.tries),
        "dl_error": delivery.error,
    }
    return [*delivery.fields, *(text.encode() for pair in more.items() for text in pair)]
