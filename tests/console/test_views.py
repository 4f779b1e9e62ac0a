"""What pages show, without a browser."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from app.backchannel.remedies import MENDING
from app.config.issuers import IssuerSettings
from app.console.plot import HEIGHT, WIDTH, plot
from app.console.rendering import ident, inline
from app.console.story_views import tale, whole
from app.console.texts import ACTS, PROOFS, STEPS, TEXTS
from app.console.views import refused
from app.errors import Reason
from app.history import (
    AppHistory,
    DeadLetter,
    DeliveredEvent,
    RefusalEntry,
    RevocationQuery,
    State,
)
from app.history.conclusion import conclude
from app.sessions.lifecycle import SessionState as Lifecycle
from app.sessions.termination.termination import Phase
from app.telemetry.sanitize import audiences, number, text
from backchannel_logout import AppStatus, Event, EventKind, Proof

ISSUER = IssuerSettings.model_validate(
    {"issuer": "https://op.example", "clients": [{"client_id": "shop-web", "app": "shop"}]}
)


def test_every_reason_has_a_sentence_that_mends_it() -> None:
    assert MENDING.keys() == set(Reason)


def test_every_standing_has_a_sentence() -> None:
    assert PROOFS.keys() == set(AppStatus)


def test_the_templates_use_texts_that_are_there() -> None:
    folder = files("app.console").joinpath("templates")
    used = {name for one in folder.iterdir() for name in re.findall(r"\bt\.(\w+)", one.read_text())}
    assert used
    assert used <= TEXTS.keys()
    assert not [name for name in TEXTS if hasattr(dict, name)], "the page would show the method"


def test_every_act_of_the_audit_has_words() -> None:
    folder = files("app")
    code = "".join(one.read_text() for one in Path(str(folder)).rglob("*.py"))
    acts = set(re.findall(r'"((?:console|feed|sessions?|account|revocation)\.[a-z_.]+)"', code))
    assert len(acts) > 10
    assert acts <= ACTS.keys()


def test_every_step_and_state_of_a_session_has_words() -> None:
    assert STEPS.keys() == {one.value for one in Phase} | {"proven"}
    assert {one.value for one in Lifecycle} <= TEXTS.keys()


def test_the_script_has_no_words_of_its_own() -> None:
    """What it puts into the page as text comes with the page; the rest are names and addresses."""
    script = files("app.console").joinpath("static", "console.js").read_text()
    code = re.sub(r"/\*.*?\*/|(?m:^\s*//.*$)|(?m:\s// .*$)", "", script, flags=re.DOTALL)
    spoken = re.findall(r"""["'`]([A-Z]?[a-z]+(?: [a-z]+)+)["'`]""", code)
    assert not spoken
    used = set(re.findall(r"\b(?:text|dataset)\.(\w+)", code)) - {"name", "refresh", "text"}
    page = files("app.console").joinpath("templates", "feed.html").read_text()
    given = {
        re.sub("-(.)", lambda m: m[1].upper(), one) for one in re.findall(r"data-([a-z-]+)=", page)
    }
    assert used <= given, used - given


def test_a_refused_audience_is_shown_beside_the_configured_ones() -> None:
    refusal = RefusalEntry(
        id="1-0", reason="aud_unknown", iss="https://op.example", aud='["shop-web-2"]'
    )
    found = refused(refusal, {"https://op.example": ISSUER})
    assert found.sentence == "aud is shop-web-2; configured: shop-web"
    assert "[[issuers.clients]]" in found.mend


@pytest.mark.parametrize(
    ("claim", "shown"),
    [
        ("1795283041", "(string of 10, not shown)"),
        ({"name": "anna"}, "(object of 1, not shown)"),
        ([], "(array of 0, not shown)"),
        (True, "(boolean, not shown)"),
        (None, "null"),
        (1795283041, "1795283041 (2026-11-21 17:44:01 UTC)"),
        (1e300, "1e+300 (not a time)"),
    ],
)
def test_a_claim_that_is_only_described_does_not_look_like_its_value(
    claim: object, shown: str
) -> None:
    said = number({"iat": claim}, "iat")
    found = refused(RefusalEntry(id="1-0", reason="iat", iss="https://op.example", iat=said), {})
    assert dict(found.there)["iat"] == shown


@pytest.mark.parametrize(
    ("alg", "shown"),
    [
        ("HS256", "HS256"),
        (5, "5"),
        ({"a": 1}, "({…}, not shown)"),
        (["RS256"], "([…], not shown)"),
        ("string of 10", "string of 10"),
    ],
)
def test_a_refused_algorithm_is_told_from_one_that_is_only_described(
    alg: object, shown: str
) -> None:
    said = text({"alg": alg}, "alg", 40)
    refusal = RefusalEntry(id="1-0", reason="alg", iss="https://op.example", alg=said)
    found = refused(refusal, {"https://op.example": ISSUER})
    assert found.sentence == f"alg is {shown}; configured: RS256"
    assert ("alg", shown) in found.there


def test_an_audience_that_is_only_described_does_not_look_like_its_value() -> None:
    said = audiences({"aud": ["shop-web", {"a": 1}, "{…"]}, 600)
    found = refused(RefusalEntry(id="1-0", reason="aud", iss="https://op.example", aud=said), {})
    assert dict(found.there)["aud"] == "shop-web, ({…}, not shown), {…"


def test_a_refusal_of_a_newer_release_is_shown_all_the_same() -> None:
    found = refused(RefusalEntry(id="1-0", reason="new_one", aud="{", iat="x"), {})
    assert found.sentence == "new_one"
    assert ("aud", "{") in found.there


def told(standing: AppStatus, **members: object) -> DeliveredEvent:
    event = Event(
        kind=EventKind.SESSION, iss="https://op.example", sid="a", cutoff=1, app="shop",
        source="backchannel-logout", received_at=1.0,
    )  # fmt: skip
    proof = Proof(standing, **({"seen": 0, "readers": 0} | members))  # type: ignore[arg-type]
    letter = DeadLetter(id="3-0", event="2000-0", listener="web", tries=9, error="KeyError")
    letters = (letter,) if standing is AppStatus.FAILED else ()
    return DeliveredEvent(app="shop", id="2000-0", event=event, proof=proof, dead_letters=letters)


def last_step(one: DeliveredEvent) -> tuple[str, str, str]:
    question = RevocationQuery(iss="https://op.example", sid="a")
    story = AppHistory(app="shop", state=State.REVOKED, cutoff=1, events=(one,), cause=one)
    found = whole(conclude(question, [story], [], now=3.0))
    step = found.tales[0].chapters[0].steps[-1]
    return f"{step.name}: {step.said}", step.tone, found.sentence


def test_replicas_that_are_behind_are_counted() -> None:
    said, tone, sentence = last_step(told(AppStatus.WAITING, seen=2, readers=3))
    assert "Not yet" in said
    assert "1 of 3 replicas behind" in said
    assert tone == "bad"
    assert sentence.startswith("Not complete: ")


def test_a_listener_that_fails_is_named_with_its_error_and_completes_nothing() -> None:
    said, tone, sentence = last_step(told(AppStatus.FAILED))
    assert "listener web failing after 9 tries with KeyError" in said
    assert tone == "bad"
    assert "given it up" in sentence


def test_an_app_that_has_acted_completes_the_story_with_its_delay() -> None:
    said, tone, sentence = last_step(told(AppStatus.TORN_DOWN, seconds=0.25))
    assert "after 0.25 s" in said
    assert (tone, sentence) == ("good", "Complete: every app that was told has acted.")


@pytest.mark.parametrize("standing", list(AppStatus))
def test_dead_is_green_only_where_the_app_has_acted(standing: AppStatus) -> None:
    question, one = RevocationQuery(iss="https://op.example", sid="a"), told(standing)
    story = AppHistory(app="shop", state=State.REVOKED, cutoff=1, events=(one,), cause=one)
    found = tale(conclude(question, [story], [], now=3.0), story)
    acted = standing in (AppStatus.TORN_DOWN, AppStatus.SEEN, AppStatus.ASKS)
    assert (found.tone == "good") == acted
    later = RefusalEntry(id="9-0", at=9.0, reason="iat_old")
    found = tale(conclude(question, [story], [later], now=10.0), story)
    assert found.tone == "wait"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("auth0|alice", "<bdi>auth0|alice</bdi>"),
        ("<b>&", "<bdi>&lt;b&gt;&amp;</bdi>"),
        ("a b", "<bdi>a b</bdi>"),
        ("a\u202eb", '<bdi>a<bdi class="ctl" data-name="U+202E">\u202e</bdi>b</bdi>'),
        ("a\nb", '<bdi>a<bdi class="ctl" data-name="U+000A">\n</bdi>b</bdi>'),
        ("a\x00", '<bdi>a<bdi class="ctl" data-name="U+0000"></bdi></bdi>'),
        ("\ud800", '<bdi><bdi class="ctl" data-name="U+D800"></bdi></bdi>'),
        ("مرحبا", "<bdi>مرحبا</bdi>"),
    ],
)
def test_an_id_is_shown_apart_and_what_nobody_sees_in_it_is_named(value: str, shown: str) -> None:
    assert str(ident(value)) == shown


def test_the_plot_stays_within_its_picture() -> None:
    assert plot([]) is None
    for seconds in ([0.0], [1.0], [0.1, 5.0, 2.0] * 50):
        found = plot(seconds)
        assert found is not None
        for point in found.points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_the_caption_is_of_the_times_that_are_drawn() -> None:
    found = plot([0.1, 5.0, 0.2])
    assert found is not None
    assert (found.median, found.slowest, found.count) == (0.2, 5.0, 3)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("*Sign out* of `a_b*c`", "<em>Sign out</em> of <code>a_b*c</code>"),
        ("**never** <b>", "<strong>never</strong> &lt;b&gt;"),
        ("see [the docs](https://x.example/?a=*b*)", "see the docs"),
        ("2 * 3 * 4 `", "2 * 3 * 4 `"),
        ("plain", "plain"),
    ],
)
def test_what_a_preset_says_is_formatted_within_its_line(text: str, shown: str) -> None:
    assert str(inline(text)) == shown
