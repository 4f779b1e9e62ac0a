"""The errors of the admin API and the users' API.

    {"error": "<code>", "error_description": "<a sentence for the developer or operator>"}

An error never echoes the request, nor the message of a library.
"""

import contextlib
import math
from collections.abc import Iterator

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from app.history import Unreadable


class ErrorResponse(BaseModel):
    error: str
    error_description: str


class ApiError(Exception):
    """The answer to a request that cannot be served. ``status`` is the HTTP status."""

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
    def body(self) -> ErrorResponse:
        return ErrorResponse(error=self.code, error_description=self.sentence)

    def response(self) -> Response:
        return JSONResponse(self.body.model_dump(), self.status, self.headers)


def bad_request(sentence: str) -> ApiError:
    return ApiError(400, "invalid_request", sentence)


def not_found(sentence: str) -> ApiError:
    return ApiError(404, "not_found", sentence)


def redis_unavailable() -> ApiError:
    return ApiError(
        503, "redis_unavailable", "Redis does not answer now; nothing was done", retry_after=5
    )


@contextlib.contextmanager
def readable_redis() -> Iterator[None]:
    """Raise `ApiError` (503) where Redis cannot be read."""
    try:
        yield
    except Unreadable as error:
        raise redis_unavailable() from error
