"""``python -m app check``: a provider's logout features, and the address for its logouts."""

import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from tests.cli.conftest import Ended, Run
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config
from tests.support.servers.redis_server import RedisServer, free_port


def rows(ended: Ended, beginning: str) -> list[tuple[str, str]]:
    """Verdict and detail of the rows whose subject begins with this text."""
    found = re.findall(r"^(ok|WRONG|warn|\?) +(\S.*?)  +(.*)$", ended.out, re.MULTILINE)
    return [(verdict, said) for verdict, what, said in found if what.startswith(beginning)]


DISCOVERIES: dict[str, tuple[dict[str, Any], str, str]] = {
    "it sends": ({}, "ok", "discovery: it sends back-channel logouts"),
    "it sends none": (
        {"backchannel_logout_supported": False}, "warn", "discovery: it sends no back-channel",
    ),
    "it does not say": (
        {"backchannel_logout_supported": None}, "?", "discovery does not say whether it sends",
    ),
    "no sid": (
        {"backchannel_logout_session_supported": False}, "warn",
        "discovery: its tokens carry no sid: a logout ends all",
    ),
    "other algorithms": (
        {"id_token_signing_alg_values_supported": ["ES256", "HS256"]}, "warn",
        "discovery: it signs with ES256, HS256; algorithms takes RS256",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "verdict", "said"), DISCOVERIES.values(), ids=DISCOVERIES)
def test_the_logout_metadata_of_discovery_is_never_a_fault(
    changes: dict[str, Any], verdict: str, said: str,
    run: Run, provider: Provider, shared_redis: RedisServer,
) -> None:  # fmt: skip
    """Some providers omit it or publish it wrongly."""
    provider.discovery = changes
    ended = run("check", config(shared_redis.url, f'issuer = "{provider.issuer}"'))
    assert ended.status == 0
    found = rows(ended, f"logouts of {provider.issuer}")
    assert any((one, detail[: len(said)]) == (verdict, said) for one, detail in found)


def test_a_client_may_have_requested_logouts_of_all_sessions_of_a_user(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    provider.discovery = {"backchannel_logout_session_supported": False}
    text = config(shared_redis.url, f'issuer = "{provider.issuer}"', top='both_claims = "user"')
    assert "carry no sid" not in run("check", text).out


def test_without_discovery_the_logout_features_are_unknown(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    provider.discovery = {"issuer": "https://other.example/"}
    issuer = f'issuer = "{provider.issuer}"\njwks_uri = "{provider.origin}/jwks"'
    ended = run("check", config(shared_redis.url, issuer))
    assert ended.status == 0
    ((verdict, said),) = rows(ended, "logouts of ")
    assert verdict == "?"
    assert said == (
        "its features are unknown: discovery: discovery_issuer: it names "
        f'"https://other.example/", the settings "{provider.issuer}"'
    )


# -- the address ---------------------------------------------------------------------------


def address(run: Run, provider: Provider, server: RedisServer, url: str | None) -> tuple[str, str]:
    top = f'public_url = "{url}"' if url else ""
    ended = run("check", config(server.url, f'issuer = "{provider.issuer}"', top=top))
    (found,) = rows(ended, "for providers")
    return found


def test_without_a_public_url_the_path_is_shown(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    verdict, said = address(run, provider, shared_redis, None)
    assert (verdict, said.partition(";")[0]) == (
        "ok", "register https://<your host>/backchannel-logout",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "/", "/backchannel-logout"])
def test_a_public_url_that_leads_to_a_receiver_is_right(
    end: str, run: Run, provider: Provider, shared_redis: RedisServer, receiver: Receiver
) -> None:
    found = address(run, provider, shared_redis, receiver.url + end)
    said = f"register {receiver.url}/backchannel-logout: it leads to a receiver"
    assert found == ("ok", said)
    # A path that only the operator knows; nothing maps it to ours.
    verdict, said = address(run, provider, shared_redis, receiver.url + "/elsewhere")
    assert (verdict, said.rpartition(": ")[2]) == ("WRONG", "it answers 404, and is no receiver")


def test_a_public_url_of_another_service_is_wrong(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    class Another(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"welcome")

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Another) as other:
        thread = Thread(target=other.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{other.server_address[1]}"
        verdict, said = address(run, provider, shared_redis, url)
        thread.join()
    assert (verdict, said.partition(": ")[2]) == ("WRONG", "it answers 200, and is no receiver")


def test_a_public_url_that_cannot_be_reached_from_here_is_unknown(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    found = address(run, provider, shared_redis, f"http://127.0.0.1:{free_port()}")
    assert (found[0], found[1].partition(": ")[2]) == ("?", "it cannot be reached from here now")


def test_a_public_url_without_tls_is_wrong(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    verdict, said = address(run, provider, shared_redis, "http://logout.example.com")
    assert verdict == "WRONG"
    assert said.endswith("not https, most providers refuse it")
