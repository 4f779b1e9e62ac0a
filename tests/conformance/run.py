"""Sends every case to a target, and compares the status of its answer."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

from tests.conformance.requests import REQUESTS
from tests.conformance.requirements import PLAN, Requirement, advice, requirement
from tests.interop.browser import loopback_only
from tests.support.provider import Provider, private_key, public_jwk
from tests.tokens.cases import CASES

NO_STORE = advice("2.8", "every answer says Cache-Control: no-store")


@dataclass(frozen=True)
class Result:
    """One case; ``answer`` is what came, ``expected`` what had to come."""

    name: str
    requirement: Requirement
    expected: str
    answer: str
    good: bool

    @property
    def module(self) -> str:
        """The Foundation's module that tests the same; empty where none does."""
        return PLAN.get(self.name, "")

    @property
    def failed(self) -> bool:
        """Whether it breaks a rule that binds."""
        return self.requirement.binding and not self.good


def publish_another_key(provider: Provider) -> None:
    """One for another algorithm, in the same set: none of the target's business."""
    provider.extra_jwks = [public_jwk(private_key("ES256"), "es", alg="ES256")]


def wait_until_configured(target: str, provider: Provider, seconds: float) -> bool:
    """Whether the target takes a good token, at the latest after ``seconds``."""
    deadline = time.monotonic() + seconds
    with _client() as http:
        while True:
            answer = _send(lambda: http.post(target, data={"logout_token": provider.token()}))
            if isinstance(answer, httpx.Response) and _accepted(answer):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(1)


def run(target: str, provider: Provider) -> Iterator[Result]:
    """Every case that needs no settings of its own. Yields each result as it comes."""
    stored = True
    with _client() as http:

        def post(token: str) -> httpx.Response:
            return http.post(target, data={"logout_token": token})

        for case in CASES:
            if not case.options:
                token = case.token(provider)
                answer = _send(lambda token=token: post(token))
                stored &= _not_stored(answer)
                yield _result(case.name, requirement(case), case.expected is None, answer)
        for request in REQUESTS:
            answer = _send(lambda request=request: request.send(http, target, provider))
            stored &= _not_stored(answer)
            yield _result(request.name, request.requirement, request.accepted, answer)
    said = "no-store in all" if stored else "not in all"
    yield Result("Cache-Control", NO_STORE, "no-store in all", said, stored)


def _client() -> httpx.Client:
    return httpx.Client(**loopback_only())


def _send(send: Callable[[], httpx.Response]) -> httpx.Response | str:
    """The answer, or why there is none."""
    try:
        return send()
    except httpx.HTTPError as error:
        return type(error).__name__


def _accepted(answer: httpx.Response) -> bool:
    # 2.8: a 204 is tolerated by providers that know of frameworks which turn an empty 200 into one;
    # the Foundation's suite takes nothing but 200, and so do Hydra before 2.3 and Auth0.
    return answer.status_code == httpx.codes.OK


def _not_stored(answer: httpx.Response | str) -> bool:
    return isinstance(answer, str) or "no-store" in answer.headers.get("cache-control", "")


def _result(name: str, rule: Requirement, accepted: bool, answer: httpx.Response | str) -> Result:
    expected = "200" if accepted else "405" if name == "GET" else "400"
    if isinstance(answer, str):
        return Result(name, rule, expected, answer, good=False)
    status = str(answer.status_code)
    # A method that is not POST has no status of its own in the specification: any refusal does.
    refused = 400 <= answer.status_code < 500 if name == "GET" else status == "400"
    return Result(name, rule, expected, status, _accepted(answer) if accepted else refused)
