"""An ended session is followed to its outcome across a crash of the receiver."""

import signal
import threading
import time
from pathlib import Path

import pytest

from backchannel_logout import AppKeys
from tests.admin.api_fixture import ALICE, api_scene, users
from tests.support.providers.api_server import Response
from tests.support.providers.auth0_api import fault as auth0_fault
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow


def test_an_ending_survives_the_death_of_the_process_that_followed_it(tmp_path: Path) -> None:
    with api_scene(tmp_path) as scene:
        session = scene.tenant.add(ALICE)
        scene.tenant.lag, scene.tenant.sends = 4.0, False
        assert scene.delete(f"/sessions/{session}?by=ada&reason=stolen").status_code == 202
        deadline = time.monotonic() + 60
        while scene.state(session)["asked_at"] is None:
            assert time.monotonic() < deadline
        before = scene.state(session)
        scene.receiver.stop(signal.SIGKILL)
        assert scene.redis.get(AppKeys("shop").sid(scene.issuer, session)) is None
        scene.receiver.start()
        over = scene.over(session)
        assert over["state"] == "confirmed"
        assert {one["source"] for one in over["apps"]} == {"auth0"}
        # Nobody was there to take a token: that says nothing of the provider's settings.
        assert "was started only after" in over["explanation"]
        assert "initiator" not in over["explanation"]
        assert (over["began_at"], over["asked_at"]) == (before["began_at"], before["asked_at"])
        assert len(scene.tenant.paths("DELETE")) == 1
        (ended,) = [one for one in scene.audit() if one["act"] == "session.ended"]
        assert (ended["who"], ended["outcome"]) == ("ada", "confirmed")


def test_all_sessions_of_a_user_end_although_the_process_dies_before_the_provider_takes_the_call(
    tmp_path: Path,
) -> None:
    with api_scene(tmp_path) as scene:
        for _ in range(5):
            scene.tenant.add(ALICE)
        neighbour = scene.tenant.add("auth0|bob")
        scene.tenant.sends = False
        called, dead, take = threading.Event(), threading.Event(), scene.tenant._end_all

        def hold(user: str) -> Response:
            if dead.is_set():
                return take(user)
            called.set()
            dead.wait(60)
            return auth0_fault(500, "Internal Server Error", "")

        scene.tenant._end_all = hold  # type: ignore[method-assign]
        answer = scene.delete(users(ALICE) + "?by=ada")
        assert answer.status_code == 202
        assert called.wait(60)
        scene.receiver.stop(signal.SIGKILL)
        dead.set()
        assert len(scene.tenant.alive()) == 6
        scene.receiver.start()
        over = [scene.over(one["session"]) for one in answer.json()["endings"]]
        assert [one["state"] for one in over] == ["confirmed"] * 5
        assert scene.tenant.alive() == {neighbour}
        wait_for(
            lambda: scene.get(users(ALICE) + "/state").json().get("over"),
            "the end of all is over", scene.receiver,
        )  # fmt: skip
        assert scene.get(users(ALICE) + "/state").json()["state"] == "confirmed"
        # The call that was held, and that of the successor: no session needed one of its own.
        (call,) = set(scene.tenant.paths("DELETE"))
        assert call.endswith("/sessions")
        assert scene.tenant.paths("DELETE") == [call] * 2


def test_a_missing_token_is_explained_by_the_503_that_the_receiver_has_answered(
    tmp_path: Path,
) -> None:
    with api_scene(tmp_path) as scene:
        scene.tenant.sends = False
        before = scene.tenant.add(ALICE)
        assert scene.delete(f"/sessions/{before}").status_code == 202
        assert "initiator" in scene.over(before)["explanation"]

        session = scene.tenant.add(ALICE)
        scene.tenant.lag = 2.0
        assert scene.delete(f"/sessions/{session}").status_code == 202
        scene.keys.mode = "500"
        token = scene.keys.token(sid=session, sub=ALICE, header={"kid": "not-fetched-yet"})
        assert scene.receiver.post(token).status_code == 503
        explanation = scene.over(session)["explanation"]
        assert "answered logout tokens with 503 in that time" in explanation
        assert "initiator" not in explanation
