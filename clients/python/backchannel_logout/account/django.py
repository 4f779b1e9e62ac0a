"""Users' own sessions in Django, under WSGI and ASGI:

view = account_view("http://receiver:9100", token=...)
urlpatterns = [path("account", view), path("account/<path:rest>", view)]
"""

from collections.abc import Callable
from urllib.parse import quote

# Django has no types.
from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped]
from django.views.decorators.csrf import csrf_exempt  # type: ignore[import-untyped]

from backchannel_logout.account import AccountProxy


def account_view(url: str, token: str) -> Callable[..., HttpResponse]:
    """A view. Pages poll each second while a session ends: an event stream would occupy a worker
    for each of them."""
    proxy = AccountProxy(url, token)

    # Instead of Django's token: a header that no page of another site can send; see `account`.
    @csrf_exempt  # type: ignore[untyped-decorator]
    def account(request: HttpRequest, rest: str = "") -> HttpResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = f"/{quote(rest)}" if rest else ""
        mounted = request.path.removesuffix(f"/{rest}")
        answer = proxy.answer(request.method, path, request.session, headers, mounted=mounted)
        return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))

    return account  # type: ignore[no-any-return]
