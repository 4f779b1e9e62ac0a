"""The API works with the Redis rights that the contract's page gives to the receiver."""

import re
from pathlib import Path

import pytest
import redis

from tests.admin.api_stage import ALICE, Listener, api_scene
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.slow

CONTRACT = (Path(__file__).parents[2] / "docs/contract.md").read_text()


@pytest.mark.parametrize("rules", ["acl", "acl-6.2"])
def test_a_session_is_ended_with_the_documented_rights_alone(tmp_path: Path, rules: str) -> None:
    found = re.search(rf"```{re.escape(rules)}\n(.*?)```", CONTRACT, re.DOTALL)
    assert found is not None
    users = tmp_path / "users.acl"
    text = found[1].replace("wiki", "news")
    if rules == "acl-6.2":
        # As the page says: what the API needs, without the parentheses.
        (api,) = re.findall(r"\((~bcl:v1:ending:\*.*?)\)", CONTRACT)
        text = re.sub(r"(?m)^(user receiver .*)$", rf"\1 {api}", text)
    users.write_text(text)
    server = RedisServer(tmp_path / "redis", "--aclfile", str(users)).start()
    url = f"redis://receiver:RECEIVER-PASSWORD@127.0.0.1:{server.port}/0"
    look = redis.Redis(
        port=server.port, username="admin", password="ADMIN-PASSWORD", decode_responses=True
    )
    with api_scene(tmp_path, redis_url=url) as scene:
        for sends in (True, False):
            scene.tenant.sends = sends
            session = scene.tenant.add(ALICE)
            with Listener(scene) as feed:
                assert feed.next()[0] == "ready"
                assert scene.delete(f"/sessions/{session}").status_code == 202
                assert scene.over(session)["state"] == "confirmed"
                assert {feed.next()[1]["sid"] for _ in range(2)} == {session}
        assert scene.get(f"/sessions/{session}").json()["apps"][0]["state"] == "revoked"
        assert scene.post("/revocations", {"sub": "c", "reason": "x"}).status_code == 201
        assert [app["fault"] for app in scene.get("/apps").json()["apps"]] == [None, None]
    assert look.xlen("bcl:v1:audit") > 5
    assert look.smembers("bcl:v1:endings") == set()
    denied = [one for one in look.acl_log() if one["username"] == "receiver"]
    look.close()
    server.stop()
    if rules == "acl":  # with Redis 6.2's rules the apps' own keys can not be read
        assert denied == []
