"""An application of JSON resources, for the admin API and the users' API."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.history import as_json
from app.web.errors import ApiError


def json_api(routes: Sequence[BaseRoute], middleware: Sequence[Middleware] = ()) -> ASGIApp:
    """An application that answers every error, including the router's, as an `ApiError`."""
    handlers: Mapping[Any, Any] = {
        ApiError: _api_error,
        HTTPException: _http_error,
        Exception: _internal_error,
    }
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)
    app.router.redirect_slashes = False

    async def with_raw_path(scope: Scope, receive: Receive, send: Send) -> None:
        # Routes match the path as sent: a decoded %2F would separate segments.
        path = scope["raw_path"].decode("ascii", "replace")
        await app({**scope, "path": path}, receive, send)

    return with_raw_path


def json_response(
    record: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A model or a record, or a list of them, as JSON."""
    return JSONResponse(as_json(record), status, headers)


async def _api_error(_: Request, error: ApiError) -> Response:
    return error.response()


async def _http_error(_: Request, error: HTTPException) -> Response:
    """The router's 404 and 405."""
    code, sentence = {
        404: ("not_found", "there is no such path"),
        405: ("method_not_allowed", "this path does not know the method"),
    }.get(error.status_code, ("invalid_request", "the request can not be answered"))
    api_error = ApiError(error.status_code, code, sentence)
    api_error.headers |= error.headers or {}
    return api_error.response()


async def _internal_error(_: Request, __: Exception) -> Response:
    return ApiError(500, "internal", "an unexpected fault; the log says more").response()
