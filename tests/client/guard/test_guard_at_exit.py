"""A process that ends cleanly leaves no reader behind: real servers, and SIGTERM."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.apps.listening import Stream
from tests.support.receiver import ROOT, clean_environment, wait_for
from tests.support.servers.redis_server import RedisServer, free_port

ASGI_APP = """
import sys, time
from contextlib import asynccontextmanager
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from backchannel_logout import AsyncSessionGuard, remember
from backchannel_logout.asgi import BackchannelLogoutMiddleware

url, app, port, lifespan = sys.argv[1:]
guard = AsyncSessionGuard(url, app=app, timeout=30)

async def home(request):
    request.session["user"] = "alice"
    claims = {"iss": "https://op.example", "sub": "alice", "sid": "s", "iat": int(time.time())}
    remember(request.session, claims)
    return PlainTextResponse("hello")

@asynccontextmanager
async def closing(_):
    async with guard:
        yield

middleware = [
    Middleware(SessionMiddleware, secret_key="of this test"),
    Middleware(BackchannelLogoutMiddleware, guard=guard, signed_in="user"),
]
uvicorn.run(
    Starlette(
        routes=[Route("/", home)], middleware=middleware,
        lifespan=closing if lifespan == "own" else None,
    ),
    port=int(port), log_level="warning",
)
"""

FLASK_APP = """
import signal, sys, time
import flask
from werkzeug.serving import make_server
from backchannel_logout import SessionGuard, remember
from backchannel_logout.flask import BackchannelLogout

url, app, port, _ = sys.argv[1:]
site = flask.Flask("site")
site.secret_key = "of this test"
guard = SessionGuard(url, app=app, near_cache=True, timeout=30)
BackchannelLogout(site, guard=guard, signed_in="user")

@site.get("/")
def home():
    flask.session["user"] = "alice"
    claims = {"iss": "https://op.example", "sub": "alice", "sid": "s", "iat": int(time.time())}
    remember(flask.session, claims)
    return "hello"

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as a WSGI server's worker does
make_server("localhost", int(port), site, threaded=True).serve_forever()
"""


@pytest.mark.parametrize(
    ("code", "lifespan"),
    [(ASGI_APP, "none"), (ASGI_APP, "own"), (FLASK_APP, "none")],
    ids=["uvicorn", "uvicorn, with a guard that its app closes, too", "Flask"],
)
def test_an_orderly_stop_takes_its_reader_along(
    code: str, lifespan: str, shared_redis: RedisServer, tmp_path: Path
) -> None:
    with shared_redis.client() as client:
        stream = Stream(client)
        port = free_port()
        url = shared_redis.url.replace("127.0.0.1", "localhost")  # a name that must be resolved
        process = subprocess.Popen(
            [sys.executable, "-c", code, url, stream.app, str(port), lifespan],
            env=clean_environment() | {"PYTHONPATH": str(ROOT / "clients/python")}, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            with httpx.Client(base_url=f"http://localhost:{port}", trust_env=False) as browser:

                def reads() -> Any:
                    assert process.poll() is None, process.communicate()
                    try:
                        browser.get("/")
                    except httpx.TransportError:
                        return False
                    return client.hkeys(stream.keys.readers)

                wait_for(reads, "the guard reports")
            process.terminate()
            assert process.communicate(timeout=60) is not None
            assert client.hkeys(stream.keys.readers) == ["ended"]
        finally:
            process.kill()
            process.communicate()
