"""The admin API with the receiver's Redis rights of the contract."""

from pathlib import Path

import pytest

from tests.admin.api_fixture import ALICE, Listener, admin_client
from tests.support.receiver import wait_for
from tests.support.rights import documented_rights

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rules", ["acl", "acl-6.2"])
def test_a_session_is_ended_with_the_documented_rights_alone(tmp_path: Path, rules: str) -> None:
    with (
        documented_rights(tmp_path, rules) as (url, look),
        admin_client(tmp_path, redis_url=url) as admin,
    ):
        for sends in (True, False):
            admin.tenant.sends = sends
            session = admin.tenant.add(ALICE)
            with Listener(admin) as feed:
                assert feed.next()[0] == "ready"
                assert admin.delete(f"/sessions/{session}").status_code == 202
                assert admin.over(session)["state"] == "confirmed"
                assert {feed.next()[1]["sid"] for _ in range(2)} == {session}
        assert admin.get(f"/sessions/{session}").json()["apps"][0]["state"] == "revoked"
        assert admin.post("/revocations", {"sub": "c", "reason": "x"}).status_code == 201
        assert [app["fault"] for app in admin.get("/apps").json()["apps"]] == [None, None]
        assert look.xlen("bcl:v1:audit") > 5
        # It is closed right after it is over.
        wait_for(lambda: not look.smembers("bcl:v1:endings"), "none is open", admin.receiver)
