"""The API works with the Redis rights that the contract's page gives to the receiver."""

from pathlib import Path

import pytest

from tests.admin.api_fixture import ALICE, Listener, api_scene
from tests.support.rights import documented_rights

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rules", ["acl", "acl-6.2"])
def test_a_session_is_ended_with_the_documented_rights_alone(tmp_path: Path, rules: str) -> None:
    with (
        documented_rights(tmp_path, rules) as (url, look),
        api_scene(tmp_path, redis_url=url) as scene,
    ):
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
