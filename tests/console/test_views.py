"""The views of the console's pages, without a browser."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from app.backchannel.remedies import MENDING
from app.config.issuers import IssuerSettings
from app.console.feed_views import refusal_view
from app.console.plot import HEIGHT, WIDTH, plot
from app.console.rendering import ident, inline
from app.console.story_views import app_story, story_view
from app.console.texts import ACTS, ENDED, FEED, KINDS, PHASES, PROOFS, SESSION_STATES
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
from app.sessions.lifecycle import SessionState
from app.sessions.termination.termination import Phase
from app.telemetry.sanitize import audiences, number, text
from backchannel_logout import AppStatus, Event, EventKind, Proof

ISSUER = IssuerSettings.model_validate(
    {"issuer": "https://op.example", "clients": [{"client_id": "shop-web", "app": "shop"}]}
)


def test_every_reason_has_a_remedy() -> None:
    assert MENDING.keys() == set(Reason)


def test_every_app_status_has_a_sentence() -> None:
    assert PROOFS.keys() == set(AppStatus)


def test_the_templates_use_words_that_are_there() -> None:
    templates = "".join(
        file.read_text() for file in files("app.console").joinpath("templates").iterdir()
    )
    for table, words in (("words", FEED), ("ended", ENDED)):
        used = set(re.findall(rf"\b{table}\.(\w+)", templates))
        assert used
        assert used <= words.keys()
        assert not [name for name in words if hasattr(dict, name)], "the page would show the method"


def test_every_act_of_the_audit_has_words() -> None:
    folder = files("app")
    code = "".join(one.read_text() for one in Path(str(folder)).rglob("*.py"))
    acts = set(re.findall(r'"((?:console|feed|sessions?|account|revocation)\.[a-z_.]+)"', code))
    assert len(acts) > 10
    assert acts <= ACTS.keys()


def test_every_phase_state_and_kind_has_words() -> None:
    assert PHASES.keys() == {phase.value for phase in Phase} | {"proven"}
    assert SESSION_STATES.keys() == {state.value for state in SessionState}
    assert KINDS.keys() == ENDED.keys() == set(EventKind)


def test_the_script_has_no_words_of_its_own() -> None:
    """It takes all text from the page; its own strings are names and addresses."""
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
    view = refusal_view(refusal, {"https://op.example": ISSUER})
    assert view.sentence == "aud is shop-web-2; configured: shop-web"
    assert "[[issuers.clients]]" in view.remedy


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
def test_the_description_of_a_claim_does_not_look_like_its_value(claim: object, shown: str) -> None:
    described = number({"iat": claim}, "iat")
    view = refusal_view(
        RefusalEntry(id="1-0", reason="iat", iss="https://op.example", iat=described), {}
    )
    assert dict(view.contained)["iat"] == shown


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
def test_a_refused_algorithm_differs_from_a_description(alg: object, shown: str) -> None:
    described = text({"alg": alg}, "alg", 40)
    refusal = RefusalEntry(id="1-0", reason="alg", iss="https://op.example", alg=described)
    view = refusal_view(refusal, {"https://op.example": ISSUER})
    assert view.sentence == f"alg is {shown}; configured: RS256"
    assert ("alg", shown) in view.contained


def test_the_description_of_an_audience_does_not_look_like_its_value() -> None:
    described = audiences({"aud": ["shop-web", {"a": 1}, "{…"]}, 600)
    view = refusal_view(
        RefusalEntry(id="1-0", reason="aud", iss="https://op.example", aud=described), {}
    )
    assert dict(view.contained)["aud"] == "shop-web, ({…}, not shown), {…"


def test_a_refusal_of_a_newer_release_is_shown() -> None:
    view = refusal_view(RefusalEntry(id="1-0", reason="new_one", aud="{", iat="x"), {})
    assert view.sentence == "new_one"
    assert ("aud", "{") in view.contained


def delivered(status: AppStatus, **members: object) -> DeliveredEvent:
    event = Event(
        kind=EventKind.SESSION, iss="https://op.example", sid="a", cutoff=1, app="shop",
        source="backchannel-logout", received_at=1.0,
    )  # fmt: skip
    proof = Proof(status, **({"seen": 0, "readers": 0} | members))  # type: ignore[arg-type]
    letter = DeadLetter(id="3-0", event="2000-0", listener="web", tries=9, error="KeyError")
    letters = (letter,) if status is AppStatus.FAILED else ()
    return DeliveredEvent(app="shop", id="2000-0", event=event, proof=proof, dead_letters=letters)


def last_step(event: DeliveredEvent) -> tuple[str, str, str]:
    query = RevocationQuery(iss="https://op.example", sid="a")
    history = AppHistory(app="shop", state=State.REVOKED, cutoff=1, events=(event,), cause=event)
    view = story_view(conclude(query, [history], [], now=3.0))
    step = view.apps[0].events[0].steps[-1]
    return f"{step.name}: {step.text}", step.tone, view.sentence


def test_replicas_that_are_behind_are_counted() -> None:
    text, tone, sentence = last_step(delivered(AppStatus.WAITING, seen=2, readers=3))
    assert "Not yet" in text
    assert "1 of 3 replicas behind" in text
    assert tone == "bad"
    assert sentence.startswith("Not complete: ")


def test_a_listener_that_fails_is_named_with_its_error_and_completes_nothing() -> None:
    text, tone, sentence = last_step(delivered(AppStatus.FAILED))
    assert "listener web failing after 9 tries with KeyError" in text
    assert tone == "bad"
    assert "given it up" in sentence


def test_an_app_that_has_acted_completes_the_story_with_its_delay() -> None:
    text, tone, sentence = last_step(delivered(AppStatus.TORN_DOWN, seconds=0.25))
    assert "after 0.25 s" in text
    assert (tone, sentence) == ("good", "Complete: every app with an event has acted.")


@pytest.mark.parametrize("status", list(AppStatus))
def test_dead_is_green_only_if_the_app_has_acted(status: AppStatus) -> None:
    query, event = RevocationQuery(iss="https://op.example", sid="a"), delivered(status)
    history = AppHistory(app="shop", state=State.REVOKED, cutoff=1, events=(event,), cause=event)
    story = app_story(conclude(query, [history], [], now=3.0), history)
    acted = status in (AppStatus.TORN_DOWN, AppStatus.SEEN, AppStatus.ASKS)
    assert (story.tone == "good") == acted
    later = RefusalEntry(id="9-0", at=9.0, reason="iat_old")
    story = app_story(conclude(query, [history], [later], now=10.0), history)
    assert story.tone == "wait"


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
def test_an_id_is_isolated_and_its_invisible_characters_are_named(value: str, shown: str) -> None:
    assert str(ident(value)) == shown


def test_the_plot_stays_within_its_bounds() -> None:
    assert plot([]) is None
    for seconds in ([0.0], [1.0], [0.1, 5.0, 2.0] * 50):
        plotted = plot(seconds)
        assert plotted is not None
        for point in plotted.points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_the_caption_describes_the_times_in_the_plot() -> None:
    plotted = plot([0.1, 5.0, 0.2])
    assert plotted is not None
    assert (plotted.median, plotted.slowest, plotted.count) == (0.2, 5.0, 3)


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
def test_markdown_of_a_preset_is_formatted_within_its_line(text: str, shown: str) -> None:
    assert str(inline(text)) == shown
