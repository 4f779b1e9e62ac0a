"""With several workers the parent serves the console, and each page speaks for all of them."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.admin.api_fixture import ALICE, TOKEN, ApiScene, api_scene
from tests.support.receiver import wait_for
from tests.support.redis_server import RedisServer
from tests.support.scrape import Scrape

pytestmark = pytest.mark.slow


class Visitor:
    """Somebody who has signed in at the console."""

    def __init__(self, scene: ApiScene) -> None:
        self.scene = scene
        answer = self.ask("POST", "/sign-in", data={"token": TOKEN})
        self.cookie = {"cookie": answer.headers["set-cookie"].partition(";")[0]}

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        headers = getattr(self, "cookie", {}) | {"accept": "text/html"}
        address = f"{self.scene.receiver.admin_url}/console{path}"
        return self.scene.receiver.http.request(method, address, headers=headers, **options)  # type: ignore[arg-type]

    def see(self, path: str) -> str:
        """The page's text, without its tags."""
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return " ".join(re.sub(r"<[^>]*>", " ", answer.text).split())

    def do(self, path: str, **fields: str) -> httpx.Response:
        page = self.ask("GET", "/search").text
        csrf = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
        return self.ask("POST", path, data={"csrf": csrf, **fields})


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


@pytest.fixture
def scene(tmp_path: Path, redis: RedisServer) -> Iterator[ApiScene]:
    with api_scene(tmp_path, "workers = 2", redis.url) as running:
        running.redis = redis.client()
        yield running


def test_each_page_speaks_for_all_workers(scene: ApiScene) -> None:
    visitor = Visitor(scene)
    for n in range(8):
        scene.receiver.http.close()
        scene.receiver.http = httpx.Client(timeout=10, trust_env=False)
        assert scene.receiver.post(scene.keys.token(sid=f"s{n}")).status_code == 200
    assert scene.receiver.post(scene.keys.token(nonce="n")).status_code == 400
    wait_for(lambda: scene.redis.xlen("bcl:v1:refused") == 1, "the refusal is written")
    feed = visitor.see("")
    assert all(f"s{n}" in feed for n in range(8))
    assert "refused: nonce" in feed
    assert "To mend it" in visitor.see("/refusals")
    assert "Dead is what logged in up to" in visitor.see(f"/story?sid=s3&iss={scene.issuer}")
    assert "Workers: 2 / 2 answer" in visitor.see("/health")
    assert re.search(r"Keys 1 Fetched [\d.]+ (s|min) ago", visitor.see("/issuers"))
    scene.tenant.add(ALICE, "mine")
    answer = visitor.do("/sessions/end", issuer=scene.issuer, session="mine", user=ALICE)
    assert answer.status_code == 303
    wait_for(lambda: "confirmed" in visitor.see(answer.headers["location"][8:]), "it is confirmed")


def test_what_waits_in_any_process_is_shown_and_counted(
    scene: ApiScene, redis: RedisServer
) -> None:
    visitor = Visitor(scene)
    scene.keys.mode = "500"
    token = scene.keys.token(header={"kid": "unknown"})
    assert scene.receiver.post(token).status_code == 503
    assert scene.receiver.readyz().json()["issuers"][scene.issuer]["parked"] == 1
    assert "Tokens waiting for keys 1" in visitor.see("/issuers")
    before = Scrape(scene.receiver).one("bcl_markers_written_total", app="shop", marker="new")
    redis.stop()
    wait_for(lambda: not scene.receiver.readyz().json()["redis"]["writable"], "it is away")
    written = scene.post("/revocations", {"sub": "carol", "reason": "a test"})
    assert {one["written"] for one in written.json()["apps"]} == {"journaled"}
    found = scene.receiver.readyz().json()
    assert found["journal"]["waiting"] == 2, "of the parent, for two apps"
    assert found["ready"]
    assert Scrape(scene.receiver).one("bcl_journal_entries", state="waiting") == 2
    assert "2 waiting" in visitor.see("/health")
    redis.start()
    wait_for(lambda: scene.receiver.readyz().json()["journal"]["waiting"] == 0, "it is written")
    after = Scrape(scene.receiver).one("bcl_markers_written_total", app="shop", marker="new")
    assert after == before + 1
