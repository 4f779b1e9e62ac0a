"""A path and what it can be asked."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Handler = Callable[[Request], Awaitable[Response]]


def resource(path: str, **handlers: Handler) -> Route:
    """One route for all methods of a path, named in capitals, so that a 405 names all of them.

    No HEAD: Starlette would answer it as GET without the body, and the feed has no end.
    """

    async def answer(request: Request) -> Response:
        return await handlers[request.method](request)

    route = Route(path, answer, methods=list(handlers))
    (route.methods or set()).discard("HEAD")
    return route
