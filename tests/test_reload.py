"""Tenants are added, changed and removed without a restart, and without losing anything."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, run_app, wait_for
from tests.support.scrape import Scrape
from tests.support.servers.redis_server import RedisServer, free_port

TOKEN = "admin-token-of-these-tests-0123456789"


class Fleet:
    """A receiver with a directory of tenants, each with one issuer and one app."""

    def __init__(self, directory: Path, redis_url: str, top: str = "") -> None:
        self.ports = (free_port(), free_port())
        self.redis_url = redis_url
        self.receiver = Receiver(directory, self.main(top))
        self.files = directory / "receiver.d"
        self.files.mkdir()

    def main(self, top: str = "") -> str:
        token = f'admin_token = "{TOKEN}"\n'
        return config(self.redis_url, top=token + top, ports=self.ports)

    def write(self, tenant: str, provider: Provider, *clients: str, extra: str = "") -> None:
        listed = ", ".join(f'{{client_id = "{name}", app = "{name}"}}' for name in clients)
        text = f'[[issuers]]\nissuer = "{provider.issuer}"\n{extra}\nclients = [{listed}]\n'
        (self.files / f"{tenant}.toml").write_text(text)

    def remove(self, tenant: str) -> None:
        (self.files / f"{tenant}.toml").unlink()

    def post(self, provider: Provider, client: str, **claims: Any) -> int:
        claims.setdefault("sid", f"s{time.monotonic_ns()}")
        return self.receiver.post(provider.token(aud=client, **claims)).status_code

    def hang_up(self) -> dict[str, Any]:
        """Send SIGHUP; the log's entry of that reload."""
        before = len(self.receiver.log_events("reload"))
        assert self.receiver.process is not None
        self.receiver.process.send_signal(signal.SIGHUP)
        self.wait_for_reloads(before + 1)
        return self.receiver.log_events("reload")[before]

    def wait_for_reloads(self, number: int) -> None:
        def are_there() -> bool:
            return len(self.receiver.log_events("reload")) >= number

        wait_for(are_there, f"there are {number} reloads", self.receiver)

    def api(self, method: str, path: str) -> Any:
        headers = {"authorization": f"Bearer {TOKEN}"}
        url = self.receiver.admin_url + path
        return self.receiver.http.request(method, url, headers=headers)


@pytest.fixture
def fleet(redis_server: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "r", redis_server.url)
    yield fleet
    fleet.receiver.stop(signal.SIGKILL)


@pytest.fixture
def other() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


def test_a_tenant_is_added_and_removed_with_a_signal(
    fleet: Fleet, provider: Provider, other: Provider, redis_server: RedisServer
) -> None:
    fleet.write("a", provider, "shop")
    receiver = fleet.receiver.start()
    assert (fleet.post(provider, "shop"), fleet.post(other, "blog")) == (200, 400)
    fetched = dict(provider.requests)

    fleet.write("b", other, "blog")
    said = fleet.hang_up()
    assert (said["outcome"], said["added"], said["changed"]) == ("applied", ["b"], [])
    assert (fleet.post(provider, "shop"), fleet.post(other, "blog")) == (200, 200)
    assert dict(provider.requests) == fetched, "the keys of the other tenant are still in use"
    with redis_server.client() as look:
        wait_for(lambda: look.exists("bcl:v1:{blog}:meta"), "its guards are served", receiver)
    scrape = Scrape(receiver)
    assert scrape.total("bcl_tokens_total", issuer=other.issuer, outcome="accepted") == 1
    assert scrape.total("bcl_tokens_total", issuer=provider.issuer, outcome="accepted") == 2
    assert [it["issuer"] for it in fleet.api("GET", "/api/issuers").json()["issuers"]] == [
        provider.issuer,
        other.issuer,
    ]

    fleet.remove("b")
    assert fleet.hang_up()["removed"] == ["b"]
    assert (fleet.post(provider, "shop"), fleet.post(other, "blog")) == (200, 400)
    assert fleet.api("GET", "/api/issuers").json()["issuers"][0]["issuer"] == provider.issuer
    assert other.issuer not in receiver.readyz().json()["issuers"]
    assert receiver.stop() == 0


def test_a_changed_file_is_noticed_by_itself(
    fleet: Fleet, provider: Provider, other: Provider
) -> None:
    fleet.write("a", provider, "shop")
    receiver = fleet.receiver.start()
    fleet.write("b", other, "blog")
    wait_for(lambda: fleet.post(other, "blog") == 200, "it is served", receiver)
    fleet.write("b", other, "blog", "wiki")
    wait_for(lambda: fleet.post(other, "wiki") == 200, "its new client, too", receiver)
    fleet.wait_for_reloads(2)
    assert {it["why"] for it in receiver.log_events("reload")} == {"files"}


def test_the_links_of_kubernetes_are_followed(
    fleet: Fleet, provider: Provider, other: Provider
) -> None:
    """All files of a ConfigMap change at once, with the link to their directory."""

    def publish(version: str, **texts: str) -> None:
        directory = fleet.files / f"..{version}"
        directory.mkdir()
        for name, text in texts.items():
            (directory / f"{name}.toml").write_text(text)
            link = fleet.files / f"{name}.toml"
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}.toml")
        new = fleet.files / "..data_tmp"
        new.symlink_to(directory.name)
        new.rename(fleet.files / "..data")

    def text(one: Provider, client: str) -> str:
        clients = f'clients = [{{client_id = "{client}", app = "{client}"}}]'
        return f'[[issuers]]\nissuer = "{one.issuer}"\n{clients}\n'

    publish("1", a=text(provider, "shop"))
    receiver = fleet.receiver.start()
    assert fleet.post(provider, "shop") == 200
    publish("2", a=text(provider, "store"), b=text(other, "blog"))
    wait_for(lambda: fleet.post(other, "blog") == 200, "the new one is served", receiver)
    assert (fleet.post(provider, "store"), fleet.post(provider, "shop")) == (200, 400)


def test_a_faulty_file_is_refused_and_its_tenant_goes_on(
    fleet: Fleet, provider: Provider, other: Provider
) -> None:
    fleet.write("a", provider, "shop")
    fleet.write("b", other, "blog")
    receiver = fleet.receiver.start()
    (fleet.files / "b.toml").write_text("[[issuers")
    assert fleet.hang_up()["outcome"] == "unchanged"
    assert (fleet.post(provider, "shop"), fleet.post(other, "blog")) == (200, 200)
    assert list(receiver.readyz().json()["refused_tenants"]) == ["b"]
    assert receiver.readyz().json()["ready"] is True
    assert Scrape(receiver).total("bcl_tenant_refused", tenant="b") == 1
    (said,) = receiver.log_events("tenant", outcome="refused", tenant="b")
    assert (said["level"], said["kept"]) == ("error", True)
    status = run_app("status", "--config", "settings.toml", cwd=receiver.directory)
    assert "tenant b" in status.stdout
    assert "its file is refused" in status.stdout

    receiver.stop()
    receiver.start()
    assert fleet.post(other, "blog") == 200, "also after a restart"
    fleet.write("b", other, "blog", "wiki")
    assert fleet.hang_up()["changed"] == ["b"]
    assert "refused_tenants" not in receiver.readyz().json()
    assert Scrape(receiver).total("bcl_tenant_refused", tenant="b") is None


def test_the_api_answers_what_changed_and_what_needs_a_restart(
    fleet: Fleet, provider: Provider, other: Provider
) -> None:
    fleet.write("a", provider, "shop")
    receiver = fleet.receiver.start()
    fleet.write("b", other, "blog")
    (fleet.files / "c.toml").write_text("nonsense = 1")
    settings = receiver.directory / "settings.toml"
    settings.write_text(fleet.main("drain = 7\nleeway = 30\n"))
    answer = fleet.api("POST", "/api/reload")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["outcome"], body["added"]) == ("applied", ["b"])
    assert list(body["refused"]) == ["c"]
    assert body["needs_restart"] == ["drain"]
    settings.write_text("listen = 5\n")
    answer = fleet.api("POST", "/api/reload")
    assert (answer.status_code, answer.json()["outcome"]) == (422, "refused")
    assert any("listen" in fault for fault in answer.json()["faults"])
    assert fleet.post(other, "blog") == 200
    assert Scrape(receiver).values("bcl_reload_total")["refused"] == 1
    without = receiver.http.post(receiver.admin_url + "/api/reload")
    assert without.status_code == 401
    audited = fleet.api("GET", "/readyz")
    assert audited.status_code == 200


def test_parked_tokens_outlast_a_reload_and_are_settled_with_the_keys(
    fleet: Fleet, provider: Provider, other: Provider, redis_server: RedisServer
) -> None:
    provider.mode = "500"
    fleet.write("a", provider, "shop")
    receiver = fleet.receiver.start()
    assert fleet.post(provider, "shop", sid="parked") == 503
    fleet.write("a", provider, "shop", "store")
    fleet.write("b", other, "blog")
    fleet.hang_up()
    assert receiver.readyz().json()["issuers"][provider.issuer]["parked"] == 1
    provider.mode = "ok"
    with redis_server.client() as look:
        wait_for(lambda: look.keys("bcl:v1:{shop}:sid:*"), "it is settled", receiver)


@pytest.mark.slow
def test_no_request_fails_while_tenants_change(
    fleet: Fleet, provider: Provider, other: Provider, redis_server: RedisServer
) -> None:
    fleet.write("a", provider, "shop")
    receiver = fleet.receiver.start()
    answers: list[tuple[str, int]] = []
    stop = threading.Event()

    def keep_posting() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            answers.append((f"n{number}", fleet.post(provider, "shop", sid=f"n{number}")))

    thread = threading.Thread(target=keep_posting)
    thread.start()
    try:
        for turn in range(8):
            if turn % 2:
                fleet.remove("b")
            else:
                fleet.write("b", other, "blog", f"app-{turn}")
            fleet.write("a", provider, "shop", f"other-{turn}")
            fleet.hang_up()
    finally:
        stop.set()
        thread.join()
    assert {status for _, status in answers} == {200}
    with redis_server.client() as look:
        assert len(look.keys("bcl:v1:{shop}:sid:*")) == len(answers)
    assert receiver.log_events("background", outcome="failed") == []


def test_a_hangup_before_the_start_is_over_does_not_end_the_process(
    fleet: Fleet, provider: Provider
) -> None:
    provider.mode = "hang"
    fleet.write("a", provider, "shop")
    receiver = fleet.receiver.start(ready=False)
    assert receiver.process is not None
    for _ in range(5):
        receiver.process.send_signal(signal.SIGHUP)
    wait_for(lambda: receiver.readyz().status_code == 200, "it is ready", receiver)
    assert receiver.process.poll() is None
    assert json.loads(receiver.readyz().text)["ready"] is True
