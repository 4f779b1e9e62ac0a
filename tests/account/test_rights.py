"""The users' API with the receiver's Redis rights of the contract."""

from pathlib import Path

import pytest

from tests.account.account_fixture import AccountClient, account_client
from tests.support.receiver import wait_for
from tests.support.rights import documented_rights

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("rules", ["acl", "acl-6.2"])
def test_sessions_are_listed_and_ended_with_the_documented_rights_alone(
    tmp_path: Path, rules: str
) -> None:
    with (
        documented_rights(tmp_path, rules) as (url, look),
        account_client(tmp_path, redis_url=url) as account,
    ):
        account.user = "auth0|alice"
        for sends in (True, False):
            account.tenant.sends = sends
            own, other, third = (account.tenant.add(account.user) for _ in range(3))
            session = account.session(own)
            assert set(account.ids(session)) == {own, other, third}
            assert account.ask("DELETE", f"/{other}", session).json()["id"] == other
            assert account.until_final(other, session)["gone"]
            answer = account.ask("DELETE", "", session)
            assert [one["id"] for one in answer.json()["sessions"]] == [third]
            assert account.until_final(third, session)["gone"]
            _end_itself(account, own)
            assert account.ask("GET", "", session).json()["error"] == "session_ended"
        acts = [one["act"] for _, one in look.xrange("bcl:v1:audit")]
        assert acts.count("account.session.end") == 4
        # It is closed right after it is over.
        wait_for(lambda: not look.smembers("bcl:v1:endings"), "none is open", account.receiver)


def _end_itself(account: AccountClient, own: str) -> None:
    """A logout of the caller's own session."""
    del account.tenant.sessions[own]
    assert account.receiver.post(account.keys.token(sid=own, sub=account.user)).status_code == 200
