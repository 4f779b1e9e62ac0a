"""``python -m app explain``: each rule for a token with its outcome, and the exit status."""

import io
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import Outage, Reason
from tests.cli.conftest import Ended, Run
from tests.support.providers.provider import ABSENT, EVENT, Provider, encode_parts, private_key
from tests.support.receiver import config, run_app
from tests.support.servers.redis_server import free_port

# The command never connects to Redis.
REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"

RULES = [
    "shape", "iss", "header", "signature",
    "aud", "iat", "exp", "nbf", "jti", "events", "nonce", "sub, sid",
]  # fmt: skip


@pytest.fixture
def explain(run: Run, provider: Provider) -> Callable[..., Ended]:
    """Explain a token to a receiver that knows `provider`, with these lines in the issuer's
    settings.
    """

    def explain_token(token: str, *arguments: str, lines: str = "") -> Ended:
        text = config(REDIS_URL, f'issuer = "{provider.issuer}"\n{lines}')
        return run("explain", text, *arguments, token)

    return explain_token


Explain = Callable[..., Ended]


def outcomes(ended: Ended) -> dict[str, str]:
    """Each rule that has a line, with ``pass``, ``FAIL`` or ``-``."""
    table = {}
    for line in ended.out.splitlines():
        match = re.match(r"(pass|FAIL|-) +([a-z]+(?:, [a-z]+)?)(?: |$)", line)
        if match:
            table[match[2]] = match[1]
    return table


def test_an_accepted_token_passes_every_rule_in_order(explain: Explain, provider: Provider) -> None:
    ended = explain(provider.token())
    assert ended.status == 0
    assert ended.err == ""
    assert outcomes(ended) == dict.fromkeys(RULES, "pass")
    assert list(outcomes(ended)) == RULES
    assert ended.out.endswith("\naccepted\n")
    assert 'sub "alice", sid "sid-1"' in ended.out


# -- each rule -----------------------------------------------------------------------------

OLD = int(time.time()) - 86400

REFUSED: dict[str, tuple[dict[str, Any], str, Reason]] = {
    "an unknown issuer": ({"iss": "https://other.example/"}, "iss", Reason.ISS_UNKNOWN),
    "no issuer": ({"iss": ABSENT}, "iss", Reason.ISS),
    "another alg": ({"header": {"alg": "HS256"}}, "header", Reason.ALG),
    "no alg": ({"header": {"alg": "none"}}, "header", Reason.ALG),
    "an access token": ({"header": {"typ": "at+jwt"}}, "header", Reason.TYP),
    "a critical extension": ({"header": {"crit": ["x"]}}, "header", Reason.CRIT),
    "a kid that is a number": ({"header": {"kid": 5}}, "header", Reason.KID),
    "an unknown kid": ({"header": {"kid": "k9"}}, "signature", Reason.KEY_UNKNOWN),
    "another key": ({"key": private_key("RS256", which=99)}, "signature", Reason.SIGNATURE),
    "no aud": ({"aud": ABSENT}, "aud", Reason.AUD),
    "an unknown aud": ({"aud": ["other"]}, "aud", Reason.AUD_UNKNOWN),
    "no iat": ({"iat": ABSENT}, "iat", Reason.IAT),
    "an iat that is a string": ({"iat": "now"}, "iat", Reason.IAT),
    "an exp that is a string": ({"exp": "later"}, "exp", Reason.EXP),
    "an exp before its iat": ({"exp": OLD}, "exp", Reason.EXP_PAST),
    "an nbf long after its iat": ({"nbf": 2**40}, "nbf", Reason.NBF_FUTURE),
    "no jti": ({"jti": ABSENT}, "jti", Reason.JTI),
    "no events": ({"events": ABSENT}, "events", Reason.EVENTS),
    "another event": ({"events": {"x": {}}}, "events", Reason.EVENTS_MEMBER),
    "an event that is null": ({"events": {EVENT: None}}, "events", Reason.EVENTS_MEMBER),
    "a nonce": ({"nonce": "n"}, "nonce", Reason.NONCE),
    "a sub that is a number": ({"sub": 5}, "sub, sid", Reason.SUB),
    "an empty sid": ({"sid": ""}, "sub, sid", Reason.SID),
    "neither sub nor sid": ({"sub": ABSENT, "sid": ABSENT}, "sub, sid", Reason.SUBJECT_MISSING),
}


@pytest.mark.parametrize(("changes", "rule", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_failed_rule_is_shown_with_its_reason(
    changes: dict[str, Any], rule: str, reason: Reason, explain: Explain, provider: Provider
) -> None:
    """The rules that can still be checked are checked: all of them pass."""
    ended = explain(provider.token(**changes))
    assert ended.status == 1
    assert outcomes(ended).pop(rule) == "FAIL"
    assert f"FAIL  {rule:<9}  {reason}: " in ended.out
    assert ended.out.endswith(f"\nrefused (400): {reason}\n")
    others = {name: outcome for name, outcome in outcomes(ended).items() if name != rule}
    if rule == "header":
        assert others.pop("signature") == "-"
    assert set(others.values()) == {"pass"}
    assert others.keys() | {rule} >= set(RULES[: RULES.index(rule) + 1]) - {"signature"}


GARBAGE: dict[str, tuple[str, Reason]] = {
    "nothing": ("", Reason.SHAPE),
    "a word": ("garbage", Reason.SHAPE),
    "three letters": ("a.b.c", Reason.SHAPE),
    "two segments": ("e30.e30", Reason.SHAPE),
    "five segments": ("a.b.c.d.e", Reason.ENCRYPTED),
    "no signature": ("e30.e30.", Reason.SHAPE),
    "characters of other scripts": ("ü.山.🚪", Reason.SHAPE),
    "undecodable bytes of an argument": ("\udcff.\udcfe.\udcfd", Reason.SHAPE),
    "a header that is no JSON": ("AAAA.e30.AAAA", Reason.HEADER_JSON),
    "a payload that is an array": ("e30.W10.AAAA", Reason.PAYLOAD_JSON),
    "empty objects": ("e30.e30.AAAA", Reason.ISS),
    "a whole form": ("logout_token=e30.e30.AAAA", Reason.SHAPE),
}


@pytest.mark.parametrize(("text", "reason"), GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused(text: str, reason: Reason, explain: Explain) -> None:
    ended = explain(text)
    assert (ended.status, ended.err) == (1, "")
    assert ended.out.endswith(f"\nrefused (400): {reason}\n")


@pytest.mark.parametrize("names", [{}, {"kid": "k1", "typ": "logout+jwt"}], ids=["bare", "named"])
def test_the_empty_signature_of_an_unsigned_token_is_reported(
    names: dict[str, str], explain: Explain, provider: Provider
) -> None:
    """It has three segments, so nothing suggests that one is missing."""
    token = encode_parts({"alg": "none"} | names, provider.claims(), lambda _: b"x")
    ended = explain(token.rpartition(".")[0] + ".")
    assert ended.status == 1
    assert '3 segments; the third, the signature, is empty; alg "none"' in ended.out
    assert "without a signature (alg none) it is never taken" in ended.out
    assert ended.out.endswith("\nrefused (400): shape\n")


def test_text_without_dots_is_reported_as_one_segment(explain: Explain) -> None:
    assert "3 bytes, 1 segment; a token has 3, separated by dots" in explain("e30").out


def test_several_faults_are_all_shown_and_the_first_one_decides(
    explain: Explain, provider: Provider
) -> None:
    ended = explain(provider.token(aud="other", jti=5, nonce=None))
    failed = [rule for rule, outcome in outcomes(ended).items() if outcome == "FAIL"]
    assert failed == ["aud", "jti", "nonce"]
    assert ended.out.endswith("\nrefused (400): aud_unknown\n")


def test_a_fault_is_followed_by_the_value_found_and_the_one_configured(
    explain: Explain, provider: Provider
) -> None:
    ended = explain(provider.token(aud=["shop-phone"], header={"alg": "HS256"}))
    assert 'found: aud ["shop-phone"]' in ended.out
    assert 'configured: "shop-web"' in ended.out
    assert 'configured: algorithms "RS256"' in ended.out
    ended = explain(provider.token(iss="https://other.example/"))
    assert 'found: iss "https://other.example/"' in ended.out
    assert f'configured: "{provider.issuer}"' in ended.out
    ended = explain(provider.token(header={"kid": "k9"}))
    assert 'the issuer\'s keys: "k1"' in ended.out


# -- the issuer's settings and keys --------------------------------------------------------


def test_the_issuers_own_rules_are_applied(explain: Explain, provider: Provider) -> None:
    token = provider.token(header={"typ": "JWT"}, exp=ABSENT)
    assert explain(token).status == 0
    ended = explain(token, lines="strict = true")
    failed = [rule for rule, outcome in outcomes(ended).items() if outcome == "FAIL"]
    assert failed == ["header", "exp"]


def test_a_provider_that_is_down_is_not_a_fault_of_the_token(
    explain: Explain, provider: Provider
) -> None:
    """The receiver would answer 503; all other rules are checked."""
    provider.mode = "500"
    ended = explain(provider.token())
    assert (ended.status, ended.err) == (1, "")
    assert f"FAIL  signature  {Outage.KEYS_UNAVAILABLE}: " in ended.out
    assert "the issuer's keys: http_500" in ended.out
    assert ended.out.endswith("\nnot accepted now (503): keys_unavailable\n")
    assert outcomes(ended)["sub, sid"] == "pass"


def test_keys_of_an_unknown_issuer_are_not_fetched(explain: Explain) -> None:
    with Provider() as stranger:
        assert explain(stranger.token()).status == 1
        assert not stranger.requests


# -- time ----------------------------------------------------------------------------------


def test_an_old_token_would_be_refused_now_and_was_valid_when_issued(
    explain: Explain, provider: Provider
) -> None:
    """A token from yesterday's log: the verdict is for now, with a note that it was valid then."""
    ended = explain(provider.token(iat=OLD, exp=OLD + 120))
    assert ended.status == 1
    failed = [rule for rule, outcome in outcomes(ended).items() if outcome == "FAIL"]
    assert failed == ["iat", "exp"]
    then = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(OLD))
    last = f"would be refused now (400): iat_old; it was valid at {then}"
    assert ended.out.endswith(f"\n{last}\n")


def test_an_old_token_that_was_never_valid_is_not_called_valid_then(
    explain: Explain, provider: Provider
) -> None:
    for changes in ({"nonce": "n"}, {"key": private_key("RS256", which=99)}):
        ended = explain(provider.token(iat=OLD, exp=OLD + 120, **changes))
        assert ended.status == 1
        assert "was valid" not in ended.out


@pytest.mark.parametrize(
    ("at", "failed"),
    [
        (str(OLD), []),
        (str(OLD + 360), ["exp"]),
        (str(OLD + 361), ["iat", "exp"]),
        (str(OLD - 60), []),
        (str(OLD - 61), ["iat"]),
        (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(OLD)), []),
        (time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(OLD)), []),
        (time.strftime("%Y-%m-%dT%H:%M:%S+01:00", time.gmtime(OLD)), ["iat"]),
    ],
    ids=["iat", "+360", "+361", "-60", "-61", "ISO", "ISO without zone", "ISO in another zone"],
)
def test_at_evaluates_times_as_of_the_given_moment(
    at: str, failed: list[str], explain: Explain, provider: Provider
) -> None:
    ended = explain(provider.token(iat=OLD, exp=OLD + 240), "--at", at)
    failures = [rule for rule, outcome in outcomes(ended).items() if outcome == "FAIL"]
    assert failures == failed
    assert ended.status == (1 if failed else 0)
    assert "was valid" not in ended.out


@pytest.mark.parametrize("iat", [1e300, -1e300, 10**30, -(10**12), 0, -1, 0.5, True, None, "x"])
def test_any_iat_can_be_shown(iat: Any, explain: Explain, provider: Provider) -> None:
    ended = explain(provider.token(iat=iat))
    assert ended.status in (0, 1)
    assert ended.err == ""
    assert f"iat {json.dumps(iat)}" in ended.out


# -- what is printed -----------------------------------------------------------------------


def test_the_signature_is_never_printed(explain: Explain, provider: Provider) -> None:
    """Without its signature, the printed text is not a token that could be sent."""
    for changes in ({}, {"aud": "other"}, {"iss": "https://x"}, {"header": {"kid": "k9"}}):
        token = provider.token(**changes)
        ended = explain(token)
        assert token.rpartition(".")[2][:16] not in ended.out + ended.err
        assert token.partition(".")[0] not in ended.out + ended.err
    ended = explain("x." + provider.token())
    assert provider.token().rpartition(".")[2][:16] not in ended.out + ended.err


CONTROL = "\x1b[2J\x1b]0;title\x07\r\n\x00\x7f\x9b31m\u202e\u2028"


def test_control_characters_do_not_reach_the_terminal(explain: Explain, provider: Provider) -> None:
    """From claims, header, member names, and the key ids that the provider publishes."""
    provider.extra_jwks = [provider.jwks()["keys"][0] | {"kid": CONTROL}]
    ended = explain(
        provider.token(
            sid=CONTROL,
            sub=[CONTROL],
            jti={CONTROL: CONTROL},
            aud=CONTROL,
            nonce=CONTROL,
            events={CONTROL: 1},
            exp=CONTROL,
            header={"kid": CONTROL + "x", "typ": CONTROL},
        )
    )
    ended_too = explain(provider.token(header={"kid": CONTROL + "x"}))
    unknown = explain(provider.token(iss=CONTROL))
    for run_result in (ended, ended_too, unknown):
        assert run_result.status == 1
        printed = run_result.out.replace("\n", "")
        assert printed.isprintable()
        assert printed.isascii()
    assert "\\u001b[2J" in ended.out
    assert "\\u007f" in ended_too.out


def test_long_claims_are_cut(explain: Explain, provider: Provider) -> None:
    ended = explain(provider.token(sid="x" * 255, sub="y" * 20_000))
    assert max(map(len, ended.out.splitlines())) < 400


# -- where the token comes from ------------------------------------------------------------


def test_the_token_may_come_from_standard_input(provider: Provider, tmp_path: Path) -> None:
    """In a separate process, with the newline that echo or an editor adds."""
    (tmp_path / "settings.toml").write_text(config(REDIS_URL, f'issuer = "{provider.issuer}"'))
    ended = run_app(
        "explain", "--config", "settings.toml", cwd=tmp_path, stdin=provider.token() + "\r\n"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("\naccepted\n")


STDIN = {"empty": b"", "not UTF-8": b"\xff\xfe.\xff.\x00", "many NULs": b"\x00" * 100_000}


@pytest.mark.parametrize("stdin", STDIN.values(), ids=STDIN)
def test_rubbish_in_standard_input_is_refused(
    stdin: bytes, explain: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
    ended = explain("-")
    assert (ended.status, ended.err) == (1, "")
    assert ended.out.endswith("\nrefused (400): shape\n")


def test_standard_input_is_not_read_when_the_token_is_an_argument(
    explain: Explain, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert explain(provider.token()).status == 0


def test_an_id_token_is_recognized_as_one(explain: Explain, provider: Provider) -> None:
    """The token that users most often have at hand when a logout does not work."""
    ended = explain(provider.token(events=ABSENT, nonce="n-0S6"))
    assert ended.status == 1
    assert "this seems to be" in ended.out
    assert "an ID token, not the logout token that a provider POSTs" in ended.out
    assert "this seems to be" not in explain(provider.token()).out
