"""The README's code runs: each app that it protects loses one session and keeps the other."""

import asyncio
import contextlib
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.examples.test_express_app import HERE as EXPRESS
from tests.examples.test_express_app import packages_missing, process
from tests.support.revocations import ISS, AppStore
from tests.support.servers.redis_server import RedisServer, free_port

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
ALICE, NEIGHBOUR = "s1", "s2"
"""Their session ids."""
WITHIN = 10.0
"""Seconds: the near cache drops an ended session within one; the rest is for a busy machine."""


@dataclass(frozen=True)
class Framework:
    """A heading of the README, and code that makes its block a server: ``/login`` and ``/me``."""

    heading: str
    file: str
    rest: str
    between: str = ""
    """Goes where the block changes to another file."""


FASTAPI = Framework("FastAPI and Starlette", "main.py", """
import uvicorn

@app.post("/login")
async def login(request: Request):
    sign_in(request, await request.json())

@app.get("/me")
async def me(request: Request):
    return request.session.get("user")

uvicorn.run(app, port=int(os.environ["PORT"]))
""")  # fmt: skip

DJANGO = Framework("Django", "main.py", """
import json, os
from wsgiref.simple_server import make_server
from django import urls
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.http import JsonResponse

def login(request):
    user, _ = auth.get_user_model().objects.get_or_create(username="alice")
    sign_in(request, user, json.loads(request.body))
    return JsonResponse({})

def me(request):
    return JsonResponse({"user": request.user.username})

urlpatterns = [urls.path("login", login), urls.path("me", me)]
call_command("migrate", verbosity=0)
make_server("127.0.0.1", int(os.environ["PORT"]), WSGIHandler()).serve_forever()
""", """
import django
from django.conf import settings
settings.configure(
    MIDDLEWARE=MIDDLEWARE, BACKCHANNEL_LOGOUT=BACKCHANNEL_LOGOUT, ROOT_URLCONF=__name__,
    SECRET_KEY="only of this test", ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=[f"django.contrib.{name}" for name in ("auth", "contenttypes", "sessions")],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{__file__}.db"}},
)
django.setup()
""")  # fmt: skip

FLASK = Framework("Flask", "main.py", """
from flask import jsonify, request

@app.post("/login")
def login():
    sign_in(request.get_json())
    return jsonify({})

@app.get("/me")
def me():
    return jsonify(session.get("user"))

app.run(port=int(os.environ["PORT"]))
""")  # fmt: skip

EXPRESS_APP = Framework("Express", "main.mjs", """
app.post('/login', express.json(), async (req, res) => {
  await signIn(req, req.body);
  res.json({});
});
app.get('/me', (req, res) => res.json(req.session.user ?? null));
app.get('/fault', () => { throw new Error('of the app itself'); });
app.use(onError);
app.listen(process.env.PORT, '127.0.0.1');
""")  # fmt: skip

FRAMEWORKS = [
    pytest.param(framework, id=framework.heading.split()[0].lower())
    for framework in (FASTAPI, DJANGO, FLASK, EXPRESS_APP)
]


def block(heading: str) -> str:
    found = re.search(rf"^### {heading}\n.*?^```\w+\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@contextlib.contextmanager
def serving(framework: Framework, app: str, server: RedisServer, directory: Path) -> Iterator[str]:
    """The block as a process, for this app and server; yields its URL."""
    code = block(framework.heading)
    for documented, ours in (("redis://127.0.0.1:6379/0", server.url), ("shop", app)):
        code, replaced = re.subn(f"""(["']){re.escape(documented)}(["'])""", rf"\1{ours}\2", code)
        assert replaced == 1
    if framework.between:
        first, code = code.split("# views.py")
        code = first + framework.between + code
    file = directory / framework.file
    file.write_text(code + framework.rest, "utf-8")
    port = free_port()
    interpreter = sys.executable if file.suffix == ".py" else "node"
    environ = {"PORT": str(port), "SESSION_SECRET": "only of this test"}
    with process(directory / "log", interpreter, str(file), **environ) as serves:
        url = f"http://127.0.0.1:{port}"
        serves(f"{url}/me")
        yield url


def me(browser: httpx.Client) -> httpx.Response:
    """The answer of ``/me``; on a busy machine a check may time out, and 503 means "try again"."""
    deadline = time.monotonic() + WITHIN
    while (answer := browser.get("/me")).status_code == 503:
        assert time.monotonic() < deadline, "the guard gets no answer from Redis"
    return answer


@contextlib.contextmanager
def signed_in(url: str, sid: str) -> Iterator[httpx.Client]:
    claims = {"iss": ISS, "sub": "alice", "sid": sid, "iat": int(time.time()) - 10}
    with httpx.Client(base_url=url, trust_env=False) as browser:
        browser.post("/login", json=claims).raise_for_status()
        assert "alice" in me(browser).text
        yield browser


def put_packages_of_express(directory: Path) -> None:
    if reason := packages_missing():
        pytest.skip(reason)
    (directory / "node_modules").symlink_to(EXPRESS / "node_modules")
    shutil.copy(EXPRESS / "guard.mjs", directory)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_block_ends_one_session_and_spares_the_neighbour(
    framework: Framework, app_store: AppStore, shared_redis: RedisServer, tmp_path: Path
) -> None:
    if framework is EXPRESS_APP:
        put_packages_of_express(tmp_path)
    await app_store.write_meta()
    with (
        serving(framework, app_store.app, shared_redis, tmp_path) as url,
        signed_in(url, ALICE) as alice,
        signed_in(url, NEIGHBOUR) as neighbour,
    ):
        await app_store.write(since=int(time.time()))
        deadline = time.monotonic() + WITHIN
        while (status := me(alice).status_code) == 200:
            assert time.monotonic() < deadline, "the ended session is still served"
        assert status == 401
        assert "alice" in me(neighbour).text


async def test_the_express_block_redirects_pages_and_leaves_the_apps_errors_alone(
    app_store: AppStore, tmp_path: Path
) -> None:
    """Only a Redis that does not answer makes it 503."""
    put_packages_of_express(tmp_path)
    own = RedisServer(tmp_path / "redis")
    with contextlib.ExitStack() as stack:
        stack.callback(own.start().stop)
        redis = stack.enter_context(own.client())
        redis.hset(app_store.keys.meta, "max_session_age", 86400)
        url = stack.enter_context(serving(EXPRESS_APP, app_store.app, own, tmp_path))
        alice = stack.enter_context(signed_in(url, ALICE))
        neighbour = stack.enter_context(signed_in(url, NEIGHBOUR))

        assert neighbour.get("/fault").status_code == 500

        redis.set(app_store.keys.sid(ISS, "s1"), int(time.time()))
        page = alice.get("/me", headers={"Accept": "text/html,*/*;q=0.8"})
        assert page.status_code == 302
        assert page.headers["location"] == "/login"

        own.freeze()
        stack.callback(own.thaw)
        answer = neighbour.get("/me")
        assert answer.status_code == 503
        assert answer.json() == {"error": "RevocationUnknown"}


async def test_the_fastapi_block_closes_its_guard_with_the_app(
    app_store: AppStore, shared_redis: RedisServer, tmp_path: Path
) -> None:
    """Otherwise the app counts as behind for a minute."""
    await app_store.write_meta()
    with serving(FASTAPI, app_store.app, shared_redis, tmp_path) as url, signed_in(url, ALICE):
        deadline = time.monotonic() + WITHIN
        while not app_store.look.hgetall(app_store.keys.readers):
            assert time.monotonic() < deadline, "the guard never reports"
            await asyncio.sleep(0.01)
    assert set(app_store.look.hgetall(app_store.keys.readers)) == {"ended"}
