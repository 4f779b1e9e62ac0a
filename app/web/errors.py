"""What the admin API refuses, and how it says so: one shape, one place.

    {"error": "<code>", "error_description": "<a sentence for the person who called>"}

Nothing of the request is echoed, and no word of a library.
"""

import math
from typing import Any

from starlette.responses import JSONResponse, Response


class ApiFault(Exception):
    """The answer to a request that is not done. ``status`` is HTTP's."""

    def __init__(
        self, status: int, code: str, sentence: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))

    @property
    def body(self) -> dict[str, Any]:
        return {"error": self.code, "error_description": self.sentence}

    def response(self) -> Response:
        return JSONResponse(self.body, self.status, self.headers)


def bad_request(sentence: str) -> ApiFault:
    return ApiFault(400, "invalid_request", sentence)


def not_found(sentence: str) -> ApiFault:
    return ApiFault(404, "not_found", sentence)


def redis_away() -> ApiFault:
    return ApiFault(
        503, "redis_unavailable", "Redis does not answer now; nothing was done", retry_after=5
    )
