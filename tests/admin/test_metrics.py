"""`/metrics` of a running receiver reports what happened to it."""

import time
from pathlib import Path

import pytest

from app.store.topology import REDIS_SECONDS
from backchannel_logout import AppKeys
from backchannel_logout.contract.receipts import Outcome, Receipt
from tests.support.apps.listening import ListenerProcess
from tests.support.deployment.promtool import promtool
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.scrape import Scrape
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow

KEYS = AppKeys("shop")


def until(receiver: Receiver, name: str, value: float, **labels: str) -> None:
    wait_for(
        lambda: Scrape(receiver).total(name, **labels) == value, f"{name} is {value}", receiver
    )


def test_each_token_is_counted_once_by_what_became_of_it(
    receiver: Receiver, provider: Provider
) -> None:
    token = provider.token(sid="s1")
    assert [receiver.post(one).status_code for one in (token, token)] == [200, 200]
    assert receiver.post(provider.token(aud="other")).status_code == 400
    assert receiver.post(provider.token(iss="https://elsewhere.example")).status_code == 400
    assert receiver.post("rubbish").status_code == 400
    scrape = Scrape(receiver)
    counted = {
        labels: value for labels, value in scrape.values("bcl_tokens_total").items() if value
    }
    assert counted == {
        f"shop-web,{provider.issuer},accepted,-": 1,
        f"shop-web,{provider.issuer},repeated,-": 1,
        f"-,{provider.issuer},refused,aud_unknown": 1,
        "-,-,refused,iss_unknown": 1,
        "-,-,refused,shape": 1,
    }
    assert scrape.total("bcl_stage_duration_seconds_count", stage="verify") == 2
    assert scrape.total("bcl_stage_duration_seconds_count", stage="store") == 2
    assert scrape.total("bcl_answer_duration_seconds_count") == 5
    assert scrape.total("bcl_token_to_marker_seconds_count", issuer=provider.issuer) == 1
    assert scrape.values("bcl_markers_written_total", app="shop") == {"new": 1, "known": 0}
    assert scrape.values("bcl_jwks_fetches_total", issuer=provider.issuer) == {
        "good": 1,
        "failed": 0,
    }
    assert scrape.total("bcl_ready") == 1
    assert scrape.total("bcl_redis_writable", server="primary") == 1
    assert scrape.total("bcl_redis_risk", risk="persistence") == 0


def test_a_flood_of_unknown_issuers_and_clients_adds_no_series(
    receiver: Receiver, provider: Provider
) -> None:
    for _ in range(3):  # the difference of the clocks is shown from the third on
        receiver.post(provider.token(aud="first"))
    until(receiver, "bcl_app_events", 0)
    before = Scrape(receiver).series
    for n in range(50):
        receiver.post(provider.token(iss=f"https://{n}.example"))
        receiver.post(provider.token(aud=f"client-{n}"))
        receiver.post(provider.token(header={"kid": f"kid-{n}", "alg": f"X{n}"}))
    after = Scrape(receiver)
    assert after.series == before
    assert after.total("bcl_tokens_total", issuer="-", reason="iss_unknown") == 50


def test_prometheus_own_tool_finds_nothing_to_say(receiver: Receiver, provider: Provider) -> None:
    receiver.post(provider.token())
    done = promtool("check", "metrics", stdin=Scrape(receiver).text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_openmetrics_is_spoken_to_who_asks_for_it(receiver: Receiver) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    answer = receiver.http.get(receiver.admin_url + "/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    assert receiver.http.get(receiver.url + "/metrics").status_code == 404, "not for providers"


def test_a_redis_that_hangs_costs_a_scrape_nothing(
    receiver: Receiver, redis_server: RedisServer, provider: Provider
) -> None:
    assert receiver.post(provider.token()).status_code == 200
    redis_server.freeze()
    try:
        until(receiver, "bcl_redis_writable", 0, server="primary")
        receiver.post(provider.token(sid="s2"))

        def is_quick() -> bool:
            began = time.monotonic()
            Scrape(receiver)
            return time.monotonic() - began < REDIS_SECONDS / 2

        # One that waits for Redis never is; on a busy machine a single one may take longer.
        wait_for(is_quick, "a scrape does not wait for Redis", receiver)
        scrape = Scrape(receiver)
        assert scrape.total("bcl_tokens_total", outcome="journaled") == 1
        assert scrape.total("bcl_journal_entries", state="waiting") == 1
        assert scrape.total("bcl_journal_bytes") > 100
        assert scrape.total("bcl_token_to_marker_seconds_count") == 1
        assert scrape.total("bcl_redis_memory_used_bytes") is None, "nobody knows"
    finally:
        redis_server.thaw()
    until(receiver, "bcl_journal_entries", 0, state="waiting")
    until(receiver, "bcl_token_to_marker_seconds_count", 2)


def test_a_clock_that_is_wrong_is_seen_by_the_tokens_that_it_makes_fail(
    receiver: Receiver, provider: Provider
) -> None:
    assert Scrape(receiver).total("bcl_clock_difference_seconds") is None
    now = int(time.time())
    for _ in range(3):
        assert receiver.post(provider.token(iat=now + 200, exp=now + 400)).status_code == 400
    difference = Scrape(receiver).total("bcl_clock_difference_seconds", issuer=provider.issuer)
    assert difference is not None
    assert -201 < difference < -150


def test_what_is_parked_and_what_became_of_it(receiver: Receiver, provider: Provider) -> None:
    provider.rotate("k2")
    provider.mode = "500"
    assert receiver.post(provider.token()).status_code == 503
    scrape = Scrape(receiver)
    assert scrape.total("bcl_parked_tokens", issuer=provider.issuer) == 1
    assert scrape.total("bcl_parked_bytes", issuer=provider.issuer) > 400
    assert scrape.total("bcl_tokens_total", reason="keys_unavailable") == 1
    assert scrape.total("bcl_jwks_fetches_total", outcome="failed") >= 1
    provider.mode = "ok"
    until(receiver, "bcl_parked_tokens", 0)
    scrape = Scrape(receiver)
    assert scrape.total("bcl_parked_settled_total", outcome="accepted") == 1
    assert scrape.total("bcl_tokens_total") == 1, "it is answered once"


def test_an_apps_readers_and_receipts_are_seen(
    receiver: Receiver, provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    until(receiver, "bcl_app_events", 0, app="shop")
    listener = ListenerProcess(tmp_path, redis_server.url, "shop", mode="group")
    try:
        until(receiver, "bcl_app_readers", 1, app="shop", kind="group")
        for n in range(3):
            assert receiver.post(provider.token(sid=f"s{n}")).status_code == 200
        until(receiver, "bcl_app_receipts_total", 3, app="shop", outcome="done")
        # Of one reading, the receipts are counted before the rest is shown.
        for name, value in (("events", 3), ("group_lag_events", 0), ("group_pending_events", 0)):
            until(receiver, f"bcl_app_{name}", value, app="shop")
        scrape = Scrape(receiver)
        assert scrape.total("bcl_app_teardown_seconds_count", app="shop") == 3
        assert scrape.total("bcl_app_dead_letters", app="shop") == 0
        last = scrape.total("bcl_issuer_last_logout_timestamp_seconds", issuer=provider.issuer)
        assert last == pytest.approx(time.time(), abs=60)
        assert scrape.total("bcl_app_last_report_timestamp_seconds") == pytest.approx(last, abs=60)
        assert provider.issuer not in scrape.values("bcl_issuer_longest_gap_seconds"), (
            "one minute old"
        )
        # An app that is retired, as the runbook says: the alert's series goes.
        listener.kill()
        with redis_server.client() as look:
            look.delete(AppKeys("shop").readers)
        gone = "bcl_app_last_report_timestamp_seconds"
        wait_for(lambda: Scrape(receiver).total(gone) is None, "it is forgotten", receiver)
    finally:
        listener.kill()


def test_an_app_that_no_client_leads_to_is_named(
    receiver: Receiver, redis_server: RedisServer
) -> None:
    """After a rename and a restart: the old name, and none that the receiver serves."""
    receiver.stop()
    with redis_server.client() as look:
        look.hset(AppKeys("old").meta, "max_session_age", "60")
    receiver.start()
    until(receiver, "bcl_app_unserved", 1, app="old")
    assert len(Scrape(receiver).values("bcl_app_unserved")) == 1


def test_receipts_of_many_pages_are_counted_once(
    receiver: Receiver, redis_server: RedisServer
) -> None:
    until(receiver, "bcl_app_events", 0, app="shop")
    receipt = Receipt(event="1-0", listener="l", reader="r", seconds=0.01, outcome=Outcome.DONE)
    with redis_server.client() as client:
        for more, all_of_them in ((350, 350), (200, 550), (1, 551)):
            with client.pipeline(transaction=True) as pipe:
                for _ in range(more):
                    pipe.xadd(KEYS.receipts, dict(receipt.to_fields()))
                pipe.execute()
            until(receiver, "bcl_app_receipts_total", all_of_them, app="shop", outcome="done")


@pytest.mark.parametrize("more", [0, 350], ids=["few", "many since"])
def test_what_is_usual_of_a_provider_is_read_from_redis_at_the_start(
    more: int, provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    now = time.time()
    with redis_server.client() as client:
        for hours in (50, 40, 10, 9):
            fields = {"v": "1", "source": "backchannel-logout", "iss": provider.issuer}
            client.xadd(KEYS.events, fields, id=f"{int((now - hours * 3600) * 1000)}-0")
        for n in range(more):
            client.xadd(KEYS.events, fields, id=f"{int((now - 9 * 3600) * 1000)}-{n + 1}")
        client.xadd(KEYS.events, {"v": "1", "source": "admin", "iss": provider.issuer})
    receiver = Receiver(
        tmp_path / "receiver", config(redis_server.url, f'issuer = "{provider.issuer}"')
    )
    try:
        receiver.start()
        wait_for(lambda: Scrape(receiver).total("bcl_issuer_longest_gap_seconds"), "it is read")
        scrape = Scrape(receiver)
        assert scrape.total("bcl_issuer_longest_gap_seconds") == pytest.approx(30 * 3600, abs=1)
        last = scrape.total("bcl_issuer_last_logout_timestamp_seconds")
        assert last == pytest.approx(now - 9 * 3600, abs=1), "an administrator is no provider"
    finally:
        receiver.stop()
