"""Rows about the apps in Redis: logouts that reach no session, and apps without a client."""

from app.cli.common import opened
from app.cli.table import Row
from app.config.model import Settings
from app.devtools.embedded_redis import EmbeddedFault
from app.history import History
from app.history.service_status import unread_rows, unserved_rows


async def app_rows(settings: Settings) -> list[Row]:
    """Empty if Redis cannot be read, which has rows of its own."""
    try:
        async with opened(settings) as link:
            history = History(settings, link)
            apps = await history.overviews()
            if all(app.fault is not None for app in apps):
                return []
            unserved = await history.unserved()
    except EmbeddedFault:
        return []  # it has never run
    return [*(row for app in apps for row in unread_rows(app)), *unserved_rows(unserved)]
