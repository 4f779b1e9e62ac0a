"""Cases about the HTTP request: a valid token, sent in different ways."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from tests.conformance.requirements import Requirement, advice, must
from tests.support.providers.provider import Provider

Send = Callable[[httpx.Client, str, Provider], httpx.Response]


@dataclass(frozen=True)
class RequestCase:
    name: str
    send: Send
    requirement: Requirement
    accepted: bool


def form(fields: Callable[[Provider], Mapping[str, str]]) -> Send:
    return lambda http, url, provider: http.post(url, data=fields(provider))


def _twice(http: httpx.Client, url: str, provider: Provider) -> httpx.Response:
    token = provider.token()
    http.post(url, data={"logout_token": token})
    return http.post(url, data={"logout_token": token})


def _json(http: httpx.Client, url: str, provider: Provider) -> httpx.Response:
    return http.post(url, json={"logout_token": provider.token()})


def _get(http: httpx.Client, url: str, provider: Provider) -> httpx.Response:
    return http.get(url, params={"logout_token": provider.token()})


_POST = must("2.5", "the request is a POST of a form with the field logout_token")

REQUESTS = (
    RequestCase(
        "an unknown session",
        form(lambda p: {"logout_token": p.token(sid="nobody-has-it", sub="nobody")}),
        must("2.7", "a user who is already logged out counts as logged out"),
        accepted=True,
    ),
    RequestCase(
        "other fields besides it",
        form(lambda p: {"state": "1", "logout_token": p.token(), "x": ""}),
        must("2.5", "fields that are not understood are ignored"),
        accepted=True,
    ),
    RequestCase(
        "the same token twice",
        _twice,
        advice("2.6 step 8", "a retry by the provider is answered with success"),
        accepted=True,
    ),
    RequestCase("no logout_token", form(lambda _: {"token": "x"}), _POST, accepted=False),
    RequestCase("an empty logout_token", form(lambda _: {"logout_token": ""}), _POST, False),
    RequestCase("JSON", _json, advice("2.5", "the body is a form"), accepted=False),
    RequestCase("GET", _get, _POST, accepted=False),
)
