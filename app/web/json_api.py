"""What both APIs are made of, the operators' and the users': routes, and faults in one form."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.web.errors import ApiFault


def json_api(routes: Sequence[BaseRoute], middleware: Sequence[Middleware] = ()) -> ASGIApp:
    """An application whose every refusal, the router's too, is answered as an `ApiFault`."""
    handlers = {ApiFault: _refused, HTTPException: _http_error, Exception: _internal}
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)
    app.router.redirect_slashes = False

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        # The routes see the path as it was sent: a decoded %2F would be a slash of theirs.
        path = scope["raw_path"].decode("ascii", "replace")
        await app({**scope, "path": path}, receive, send)

    return routed


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, ApiFault):
        raise error
    return error.response()


async def _http_error(_: Request, error: Exception) -> Response:
    """404 and 405 of the router, in the form of the other answers."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, sentence = {
        404: ("not_found", "there is no such path"),
        405: ("method_not_allowed", "this path does not know the method"),
    }.get(status, ("invalid_request", "the request can not be answered"))
    fault = ApiFault(status, code, sentence)
    fault.headers |= getattr(error, "headers", None) or {}
    return fault.response()


async def _internal(_: Request, __: Exception) -> Response:
    return ApiFault(500, "internal", "an unexpected fault; the log says more").response()
