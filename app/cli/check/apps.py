"""`check`'s look at the apps in Redis: logouts that reach nobody, and apps that nobody serves."""

from app.cli.common import opened
from app.cli.table import Row
from app.config.model import Settings
from app.devtools.embedded_redis import EmbeddedFault
from app.history import History
from app.history.service_status import unread_rows, unserved_rows


async def app_rows(settings: Settings) -> list[Row]:
    """What is wrong with them; what Redis does not say, the rows of Redis say."""
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
