"""A path of an API and its methods."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Handler = Callable[[Request], Awaitable[Response]]


def resource(path: str, **handlers: Handler) -> Route:
    """One route for all methods of a path, so that a 405 names all of them.

    The keywords are methods in capitals. There is no HEAD: Starlette answers it like GET without
    the body, and the feed never ends.
    """

    async def answer(request: Request) -> Response:
        return await handlers[request.method](request)

    route = Route(path, answer, methods=list(handlers))
    (route.methods or set()).discard("HEAD")
    return route
