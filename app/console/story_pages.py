"""Search, and the story of a session or user: dead or alive, by which token, which apps acted."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.console import feed_views
from app.console.forms import IDS, query
from app.console.rendering import Rendering
from app.console.story_views import story_view
from app.history import (
    Conclusion,
    History,
    RefusalEntry,
    RevocationQuery,
    SessionHistory,
)
from app.history.conclusion import conclude
from app.telemetry.hashes import KeyedHash
from app.web.audit_log import AuditLog
from app.web.errors import bad_request, readable_redis
from app.web.params import login_time


@dataclass(frozen=True, slots=True)
class StoryPages:
    """``issuers`` are those of the settings, by their configured names."""

    issuers: list[str]
    history: History
    audit_log: AuditLog
    rendering: Rendering

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/console/search", self.search, methods=["GET"]),
            Route(feed_views.STORY, self.story, methods=["GET"]),
        ]

    async def search(self, request: Request) -> Response:
        query(request)
        return self._search_page(request, {}, 200)

    def _search_page(self, request: Request, values: Mapping[str, str], status: int) -> Response:
        return self.rendering.page(
            request, "search", status, all_issuers=self.issuers, chosen=values,
            id_missing=bool(status != 200),
        )  # fmt: skip

    async def story(self, request: Request) -> Response:
        values = query(request, "iss", "sid", "sub", "login_at", "unverified", "everybody")
        if not values.keys() & {"sid", "sub"} and not {"iss", "everybody"} <= values.keys():
            return self._search_page(request, values, 400)
        subject = RevocationQuery(
            iss=values.get("iss", ""), sid=values.get("sid"), sub=values.get("sub"),
            login_at=login_time(values, "login_at"),
        )  # fmt: skip
        if subject.iss and subject.iss not in self.history.issuers:
            raise bad_request("no issuer of this name is configured")
        await self.audit_log.record_repeated_view(
            "console.story", request, iss=subject.iss or None, sid=subject.sid, sub=subject.sub
        )
        hashed = await self.audit_log.keyed_hash()
        if not subject.iss:
            return await self._story_of_any_issuer(request, values, subject, hashed)
        story = await self.history.session_history(subject, hashed=hashed)
        if story.conclusion is Conclusion.NOTHING_KNOWN and (trimmed := _trimmed(values)):
            return RedirectResponse(f"{feed_views.STORY}?{urlencode(trimmed)}", 303)
        return self._story_page(request, values, story)

    def _story_page(
        self, request: Request, values: Mapping[str, str], story: SessionHistory
    ) -> Response:
        issuers = self.history.issuers
        elsewhere = {
            iss: f"{feed_views.STORY}?{urlencode({**values, 'iss': iss})}"
            for iss in story.elsewhere
        }
        return self.rendering.page(
            request, "story", question=story.question, unverified="unverified" in values,
            story=story_view(story), elsewhere=elsewhere, refusals_read=story.refusals_read,
            refusals=[
                (feed_views.refusal_view(refusal, issuers), feed_views.refusal_row(refusal))
                for refusal in story.refusals
            ],
        )  # fmt: skip

    async def _story_of_any_issuer(
        self,
        request: Request,
        values: Mapping[str, str],
        subject: RevocationQuery,
        hashed: KeyedHash | None,
    ) -> Response:
        """Redirect to the only issuer that knows the id, or offer a choice of several."""
        with readable_redis():
            names = await self.history.issuers_knowing(subject, hashed)
        if not names and (trimmed := _trimmed(values)):
            return RedirectResponse(f"{feed_views.STORY}?{urlencode(trimmed)}", 303)
        if len(self.issuers) == 1:
            names = names or self.issuers
        if len(names) == 1:
            address = urlencode({**values, "iss": names[0]})
            return RedirectResponse(f"{feed_views.STORY}?{address}", 303)
        refusals: list[RefusalEntry] | None = None if hashed is None else []
        story = conclude(subject, [], refusals, now=time.time(), elsewhere=names)
        return self._story_page(request, values, story)


def _trimmed(values: Mapping[str, str]) -> dict[str, str] | None:
    """The same query without spaces around the ids, as they are pasted; None without any.

    Only the second attempt, because an id may have spaces.
    """
    trimmed = {name: value.strip() if name in IDS else value for name, value in values.items()}
    if trimmed == values:
        return None
    return {name: value for name, value in trimmed.items() if value}
