"""Sends every case to a target and compares the status of its answer."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

from tests.conformance.requests import REQUESTS
from tests.conformance.requirements import PLAN, Requirement, advice, requirement
from tests.interop.browser import loopback_only
from tests.support.providers.provider import Provider, private_key, public_jwk
from tests.tokens.cases import CASES

NO_STORE = advice("2.8", "every answer has Cache-Control: no-store")


@dataclass(frozen=True)
class Result:
    """The outcome of one case."""

    name: str
    requirement: Requirement
    expected: str
    answer: str
    good: bool

    @property
    def module(self) -> str:
        """The Foundation's module with the same test, or an empty string."""
        return PLAN.get(self.name, "")

    @property
    def failed(self) -> bool:
        """Whether it breaks a mandatory rule."""
        return self.requirement.binding and not self.good


def publish_another_key(provider: Provider) -> None:
    """Adds a key for another algorithm to the key set."""
    provider.extra_jwks = [public_jwk(private_key("ES256"), "es", alg="ES256")]


def wait_until_configured(target: str, provider: Provider, seconds: float) -> bool:
    """Whether the target accepts a valid token within ``seconds``."""
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
    """Runs every case that needs no special settings; yields each result when it is known."""
    no_store = True
    with _client() as http:

        def post(token: str) -> httpx.Response:
            return http.post(target, data={"logout_token": token})

        for case in CASES:
            if not case.options:
                token = case.token(provider)
                answer = _send(lambda token=token: post(token))
                no_store &= _has_no_store(answer)
                yield _result(case.name, requirement(case), case.expected is None, answer)
        for request in REQUESTS:
            answer = _send(lambda request=request: request.send(http, target, provider))
            no_store &= _has_no_store(answer)
            yield _result(request.name, request.requirement, request.accepted, answer)
    answer = "no-store in all" if no_store else "not in all"
    yield Result("Cache-Control", NO_STORE, "no-store in all", answer, no_store)


def _client() -> httpx.Client:
    return httpx.Client(**loopback_only())


def _send(send: Callable[[], httpx.Response]) -> httpx.Response | str:
    """The answer, or the name of the error."""
    try:
        return send()
    except httpx.HTTPError as error:
        return type(error).__name__


def _accepted(answer: httpx.Response) -> bool:
    # 2.8 lets providers tolerate a 204, because some frameworks turn an empty 200 into one. The
    # Foundation's suite, Hydra before 2.3 and Auth0 accept only 200.
    return answer.status_code == httpx.codes.OK


def _has_no_store(answer: httpx.Response | str) -> bool:
    return isinstance(answer, str) or "no-store" in answer.headers.get("cache-control", "")


def _result(name: str, rule: Requirement, accepted: bool, answer: httpx.Response | str) -> Result:
    expected = "200" if accepted else "405" if name == "GET" else "400"
    if isinstance(answer, str):
        return Result(name, rule, expected, answer, good=False)
    status = str(answer.status_code)
    # The specification defines no status for other methods than POST: any refusal is fine.
    refused = 400 <= answer.status_code < 500 if name == "GET" else status == "400"
    return Result(name, rule, expected, status, _accepted(answer) if accepted else refused)
