"""An ended session is followed to its outcome across a crash of the receiver."""

import signal
import threading
from pathlib import Path

import pytest

from backchannel_logout import AppKeys
from tests.admin.api_fixture import ALICE, admin_client, users
from tests.support.providers.api_server import Response
from tests.support.providers.auth0_api import fault as auth0_fault
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow


def test_an_ending_survives_the_death_of_the_process_that_followed_it(tmp_path: Path) -> None:
    with admin_client(tmp_path) as admin:
        session = admin.tenant.add(ALICE)
        admin.tenant.lag, admin.tenant.sends = 3600, False
        assert admin.delete(f"/sessions/{session}?by=ada&reason=stolen").status_code == 202
        before = admin.state_with(session, "asked_at")
        admin.receiver.stop(signal.SIGKILL)
        assert admin.redis.get(AppKeys("shop").sid(admin.issuer, session)) is None
        admin.receiver.start()
        admin.tenant.carry_out_all()
        over = admin.over(session)
        assert over["state"] == "confirmed"
        assert {one["source"] for one in over["apps"]} == {"auth0"}
        # Nobody was there to take a token: that says nothing of the provider's settings.
        assert "was started only after" in over["explanation"]
        assert "initiator" not in over["explanation"]
        assert (over["began_at"], over["asked_at"]) == (before["began_at"], before["asked_at"])
        assert len(admin.tenant.paths("DELETE")) == 1

        def ended_acts() -> list[dict[str, str]]:
            return [one for one in admin.audit() if one["act"] == "session.ended"]

        # It is in the audit right after it is over.
        wait_for(ended_acts, "its end is in the audit", admin.receiver)
        (ended,) = ended_acts()
        assert (ended["who"], ended["outcome"]) == ("ada", "confirmed")


def test_all_sessions_of_a_user_end_although_the_process_dies_before_the_provider_takes_the_call(
    tmp_path: Path,
) -> None:
    with admin_client(tmp_path) as admin:
        for _ in range(5):
            admin.tenant.add(ALICE)
        neighbour = admin.tenant.add("auth0|bob")
        admin.tenant.sends = False
        called, dead, take = threading.Event(), threading.Event(), admin.tenant._end_all

        def hold(user: str) -> Response:
            if dead.is_set():
                return take(user)
            called.set()
            dead.wait(60)
            return auth0_fault(500, "Internal Server Error", "")

        admin.tenant._end_all = hold  # type: ignore[method-assign]
        answer = admin.delete(users(ALICE) + "?by=ada")
        assert answer.status_code == 202
        assert called.wait(60)
        admin.receiver.stop(signal.SIGKILL)
        dead.set()
        assert len(admin.tenant.alive()) == 6
        admin.receiver.start()
        over = [admin.over(one["session"]) for one in answer.json()["endings"]]
        assert [one["state"] for one in over] == ["confirmed"] * 5
        assert admin.tenant.alive() == {neighbour}
        wait_for(
            lambda: admin.get(users(ALICE) + "/state").json().get("over"),
            "the end of all is over", admin.receiver,
        )  # fmt: skip
        assert admin.get(users(ALICE) + "/state").json()["state"] == "confirmed"
        # The call that was held, and that of the successor: no session needed one of its own.
        (call,) = set(admin.tenant.paths("DELETE"))
        assert call.endswith("/sessions")
        assert admin.tenant.paths("DELETE") == [call] * 2


def test_a_missing_token_is_explained_by_the_503_that_the_receiver_has_answered(
    tmp_path: Path,
) -> None:
    with admin_client(tmp_path) as admin:
        admin.tenant.sends = False
        before = admin.tenant.add(ALICE)
        assert admin.delete(f"/sessions/{before}").status_code == 202
        assert "initiator" in admin.over(before)["explanation"]

        session = admin.tenant.add(ALICE)
        admin.tenant.lag = 3600
        assert admin.delete(f"/sessions/{session}").status_code == 202
        admin.keys.mode = "500"
        token = admin.keys.token(sid=session, sub=ALICE, header={"kid": "not-fetched-yet"})
        assert admin.receiver.post(token).status_code == 503
        admin.tenant.carry_out_all()
        explanation = admin.over(session)["explanation"]
        assert "answered logout tokens with 503 in that time" in explanation
        assert "initiator" not in explanation
