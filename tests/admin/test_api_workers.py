"""With several workers the parent serves the API, and what was begun survives whoever dies."""

import signal
import threading
import time
from pathlib import Path

import pytest

from backchannel_logout import AppKeys
from tests.admin.api_fixture import ALICE, Listener, api_scene, users
from tests.support.api_server import Response
from tests.support.auth0_api import fault as auth0_fault
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow


def test_with_workers_the_parent_serves_the_whole_api(tmp_path: Path) -> None:
    with api_scene(tmp_path, top="workers = 2") as scene:
        session, neighbour = scene.tenant.add(ALICE), scene.tenant.add(ALICE)
        with Listener(scene) as feed:
            assert feed.next()[0] == "ready"
            assert scene.delete(f"/sessions/{session}").status_code == 202
            over = scene.over(session)
            assert {feed.next()[1]["sid"] for _ in range(2)} == {session}
        assert over["state"] == "confirmed"
        assert {one["source"] for one in over["apps"]} == {"backchannel-logout"}
        written = scene.post("/revocations", {"sub": "carol", "reason": "a test"})
        assert {one["written"] for one in written.json()["apps"]} == {"accepted"}
        (issuer,) = scene.get("/issuers").json()["issuers"]
        assert issuer["keys"]["keys"] == 1
        ready = scene.receiver.readyz().json()
        assert ready["workers"] == {"all": 2, "answering": 2}
        assert neighbour in scene.tenant.alive()
        journals = sorted(one.name for one in (tmp_path / "receiver/data").glob("journal*.db"))
        assert journals == ["journal-1.db", "journal-2.db", "journal.db"]
        assert scene.receiver.stop() == 0


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
        assert len(scene.tenant.asked("DELETE")) == 1
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
        (call,) = set(scene.tenant.asked("DELETE"))
        assert call.endswith("/sessions")
        assert scene.tenant.asked("DELETE") == [call] * 2


def test_what_workers_answered_with_503_is_known_to_who_explains_a_missing_token(
    tmp_path: Path,
) -> None:
    with api_scene(tmp_path, top="workers = 2") as scene:
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
