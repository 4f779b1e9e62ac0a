"""Checks the `Host` of every request to the operators' listener, health and metrics included.

A web page can have its own name resolve to this listener (DNS rebinding) and then read the answers,
because the browser considers them the page's own site. Such a request carries the page's name as
its `Host`. A name that anybody can register in the public DNS must therefore be listed in
``admin_hosts``.

    no Host         HTTP/1.0, as health checks of load balancers send it; no browser does
    an IP address   the kubelet, Prometheus by pod: an address cannot be rebound
    no dot          a Service or a container on the same network; `localhost`
    a local suffix  a Service of a cluster
    admin_hosts     every other name

`/api` and the console apply a stricter rule in addition: see `app.admin.access`.
"""

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# Not registrable in the public DNS.
_LOCAL_SUFFIXES = (".svc", ".cluster.local", ".localhost", ".internal")


class KnownHosts:
    """Passes requests for the listener's own names to ``app``; ``hosts`` are additional names."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host")
        if host is None or self.knows(host):
            await self._app(scope, receive, send)
            return
        refusal = PlainTextResponse(
            "The Host of this request is not one of this listener's; add it to admin_hosts.\n", 403
        )
        await refusal(scope, receive, send)

    def knows(self, host: str) -> bool:
        """Whether a web page cannot have chosen this `Host`."""
        name = host.lower()
        if name.startswith("["):
            return _is_address(name[1:].partition("]")[0])
        name = name.partition(":")[0].removesuffix(".")
        if "." not in name or name.endswith(_LOCAL_SUFFIXES) or name in self._hosts:
            return True
        return _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
