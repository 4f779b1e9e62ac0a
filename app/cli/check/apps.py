"""Rows about the apps in Redis: missing rights, logouts that reach no session, apps without a
client."""

from app.cli.check.app_rights import app_rights_rows
from app.cli.check.session_ages import age_rows
from app.cli.common import opened
from app.cli.table import Row
from app.config.model import Settings
from app.devtools.embedded_redis import EmbeddedFault
from app.history import History
from app.history.service_status import unread_rows, unserved_rows
from app.publish.publisher import new_store
from app.store.errors import EXCHANGE_FAULTS
from app.store.topology import RedisTopology


async def app_rows(settings: Settings) -> list[Row]:
    """Empty if Redis cannot be read, which has rows of its own."""
    try:
        async with opened(settings) as link:
            rights = await _rights(settings, link)
            history = History(settings, link)
            apps = await history.overviews()
            if all(app.fault is not None for app in apps):
                return rights
            unserved = await history.unserved()
    except EmbeddedFault:
        return []  # it has never run
    unread = (row for app in apps for row in unread_rows(app))
    return [*rights, *unread, *unserved_rows(unserved)]


async def _rights(settings: Settings, link: RedisTopology) -> list[Row]:
    try:
        store = new_store(settings, link)
        rights = await app_rights_rows(link, store.apps)
        return [*rights, *await age_rows(link, store.metas, store.apps)]
    except EXCHANGE_FAULTS:
        return []
