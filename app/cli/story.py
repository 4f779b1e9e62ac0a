"""``python -m app story``: whether a session was ended, when, by which token, and who has acted."""

import argparse
import asyncio
import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from app.cli.argument_types import time_argument
from app.cli.common import (
    WrongUsage,
    add_json,
    add_whom,
    apps_of,
    issuer_of,
    issuers_to_read,
    opened,
)
from app.cli.watch import event_words
from app.config.model import Settings
from app.errors import TokenRefused
from app.formatting import TIME_FORMS, ago, bare, escaped, moment, rounded_duration
from app.history import (
    AppHistory,
    Conclusion,
    DeliveredEvent,
    History,
    RefusalEntry,
    RevocationQuery,
    Search,
    SessionHistory,
    State,
    Unreadable,
    as_json,
)
from app.history.conclusion import SENTENCES, conclude
from app.store.errors import EXCHANGE_FAULTS
from app.telemetry.hashes import keyed_hash
from app.tokens import signed_jwt
from backchannel_logout import AppStatus, Proof
from backchannel_logout.contract.session import whole_seconds

HELP = "the history of one session or user; exit 1 if Redis cannot be read"

_DEAD = "DEAD"

APP_STATUSES = {
    AppStatus.TORN_DOWN: "a listener has handled it",
    AppStatus.SEEN: "every guard that caches answers knows it",
    AppStatus.ASKS: "the app asks Redis at each check",
    AppStatus.WAITING: "a guard or listener is active, but has not reached it yet",
    AppStatus.FAILED: "a listener has given up on it",
    AppStatus.SILENT: "the app has read before, but is not reading now",
    AppStatus.NOBODY: "not reporting: no guard or listener of the app ever has",
}
"""A sentence for each state of a logout in an app."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_whom(parser)
    parser.add_argument("--sid", help="the session, as its provider calls it")
    parser.add_argument("--sub", help="the user; with --sid, the session's user")
    parser.add_argument(
        "--login-at", type=time_argument, metavar="TIME",
        help=f"the iat of the login's ID token: {TIME_FORMS}",
    )  # fmt: skip
    parser.add_argument(
        "--id-token-stdin", action="store_true",
        help="take all of these from an ID token on standard input, without verifying it",
    )  # fmt: skip
    add_json(parser)


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    question = _pasted(arguments) if arguments.id_token_stdin else _question(arguments)
    issuers, named = issuers_to_read(settings), arguments.issuer or question.iss
    if named:
        issuer_of(settings, named, issuers)  # it is one of the settings
    stories = asyncio.run(_query(settings, question, arguments.app))
    if len(stories) > 1:
        names = ", ".join(story.question.iss for story in stories)
        raise WrongUsage(f"several issuers know it; name one with --issuer: {names}")
    (story,) = stories
    if arguments.json:
        print(json.dumps(_json(story, unverified=arguments.id_token_stdin)))
    else:
        _print(story, time.time())
    return 1 if story.conclusion is Conclusion.UNREADABLE else 0


def _question(arguments: argparse.Namespace) -> RevocationQuery:
    """``iss`` is empty if no issuer is named."""
    if not arguments.sid and not arguments.sub:
        raise WrongUsage("say whom it is about: --sid, --sub, or --id-token-stdin")
    login_at = arguments.login_at
    return RevocationQuery(
        iss=arguments.issuer or "",
        sid=arguments.sid or None,
        sub=arguments.sub or None,
        login_at=math.floor(login_at) if login_at is not None else None,
    )


def _pasted(arguments: argparse.Namespace) -> RevocationQuery:
    """The query from the claims of an ID token."""
    if any((arguments.issuer, arguments.sid, arguments.sub, arguments.login_at)):
        raise WrongUsage("--id-token-stdin says all of --issuer, --sid, --sub and --login-at")
    if sys.stdin.isatty():
        print("paste the ID token, then Enter and Ctrl-D:", file=sys.stderr)
    try:
        claims = signed_jwt.parse(sys.stdin.buffer.read().strip()).unverified_claims
    except TokenRefused as refusal:
        raise WrongUsage(f"this is no signed token ({refusal})") from None
    iss, sid, sub, iat = (claims.get(name) for name in ("iss", "sid", "sub", "iat"))
    texts = (iss, *(claim for claim in (sid, sub) if claim is not None))
    if not all(isinstance(claim, str) and claim for claim in texts) or len(texts) < 2:
        raise WrongUsage("the token has no iss, or neither sid nor sub")
    if isinstance(iat, bool) or not isinstance(iat, int | float) or not math.isfinite(iat):
        raise WrongUsage("the token has no iat")
    print("the token was not verified: its claims are taken as they stand", file=sys.stderr)
    return RevocationQuery(
        iss=str(iss), sid=sid, sub=sub, login_at=math.floor(iat),
        auth_time=whole_seconds(claims.get("auth_time")),
    )  # fmt: skip


async def _query(
    settings: Settings, question: RevocationQuery, wanted: Sequence[str] | None
) -> list[SessionHistory]:
    """The history at the named issuer, else at each issuer that knows the session or user. If none
    does, the conclusion from that."""
    readable = issuers_to_read(settings)
    async with opened(settings) as link:
        history = History(settings, link)
        hashed = None
        with contextlib.suppress(*EXCHANGE_FAULTS):
            hashed = await keyed_hash(settings, link.client)
        if question.iss:
            names = [question.iss]
        elif len(settings.issuers) == 1:
            names = [settings.issuers[0].issuer]
        else:
            try:
                names = await history.issuers_knowing(question, hashed)
            except Unreadable:
                return [
                    SessionHistory(question=question, conclusion=Conclusion.UNREADABLE, apps=())
                ]
        histories = []
        for iss in names:
            issuer, _ = issuer_of(settings, iss, readable)
            query = replace(question, iss=iss)
            histories.append(
                await history.session_history(query, apps_of([issuer], wanted), hashed=hashed)
            )
        return histories or [
            conclude(question, [], None if hashed is None else [], now=time.time())
        ]


def _json(story: SessionHistory, *, unverified: bool) -> dict[str, Any]:
    members: dict[str, Any] = as_json(story)
    return {"question": members.pop("question"), "unverified": unverified} | members


# -- for people ----------------------------------------------------------------------------


def _print(story: SessionHistory, now: float) -> None:
    print(_heading(story.question))
    print(SENTENCES[story.conclusion])
    for iss in story.elsewhere:
        print(f"another issuer knows it: {bare(iss)}")
    for refusal in story.refusals:
        print(_not_applied(refusal, now))
    if not story.refusals_read:
        print("refused tokens cannot be searched for")
    for app in story.apps:
        print()
        print(f"{app.app}: {_verdict(story, app)}")
        for name, said in _lines(story.question, app, now):
            print(f"  {name:<9}  {said}")


def _not_applied(refusal: RefusalEntry, now: float) -> str:
    when = f"{moment(refusal.at)}, {ago(refusal.at, now)}" if refusal.at is not None else "once"
    what = "answered 503" if refusal.waits else "refused"
    signed = "signed by the issuer" if refusal.verified else "anybody may have sent it"
    request = f"; request {refusal.request_id}" if refusal.request_id else ""
    rule = f": {refusal.rule}" if refusal.rule else ""
    return escaped(f"{what}: a token, {when}, {refusal.reason}{rule} ({signed}{request})")


def _heading(question: RevocationQuery) -> str:
    whom = [f"session {bare(question.sid)}"] if question.sid is not None else []
    whom += [f"user {bare(question.sub)}"] if question.sub is not None else []
    login = f", login {moment(question.login_at)}" if question.login_at is not None else ""
    iss = bare(question.iss) if question.iss else "any issuer"
    return f"{', '.join(whom)}, of {iss}{login}"


def _verdict(whole: SessionHistory, story: AppHistory) -> str:
    question = whole.question
    if story.fault is not None:
        return f"cannot be read from Redis ({story.fault})"
    match story.state:
        case State.REVOKED if question.login_at is not None:
            return f"{_DEAD}, it was ended"
        case State.REVOKED if story.cutoff is not None:
            return f"{_DEAD} if it logged in at or before {moment(story.cutoff)}"
        case State.EXPIRED:
            return f"{_DEAD}, it is older than max_session_age"
        case State.ALIVE if story.markers:
            return "alive, its login is later than every marker"
        case State.ALIVE if whole.conclusion is Conclusion.NOTHING_KNOWN:
            return "nothing is known of it here: no marker, no event"
        case State.ALIVE:
            return "not ended here: no marker covers it"
        case _ if story.max_session_age is None:
            return "unknown: no receiver has served this app in this Redis"
        case _:
            return "unknown: a marker cannot be read, the app answers 503"


def _lines(question: RevocationQuery, story: AppHistory, now: float) -> Iterator[tuple[str, str]]:
    """Further facts: a word and a sentence each."""
    if question.sid is not None and question.sub is None and story.fault is None:
        yield "note", "without the user (--sub), a marker that ends all their sessions is not seen"
    for marker in story.markers:
        until = (
            f"for {rounded_duration(marker.expires_in)} more"
            if marker.expires_in is not None
            else "ever"
        )
        cutoff = "not a number" if marker.cutoff is None else moment(marker.cutoff)
        yield "marker", f"{marker.kind}, up to {cutoff}, kept {until}"
    if story.lost:
        yield "LOST", "an event says that it was ended, and its marker is gone: Redis lost data"
    for delivered in story.events:
        is_cause = delivered == story.cause
        name = "ended by" if is_cause else "also" if delivered.covers else "one of"
        yield name, event_words(delivered)
        if delivered.event is not None:
            received = delivered.event.received_at
            yield "", f"received {moment(received)}, {ago(received, now)}; event {delivered.id}"
        yield from _proof_lines(delivered)
    ended = story.state is State.REVOKED and story.cause is None
    if ended and story.markers and story.search is not None:
        yield "ended by", _not_found(story.search)


def _not_found(search: Search) -> str:
    if search.ended == "limit" and search.oldest is not None:
        return f"older than {moment(search.oldest)}, and no further was looked"
    return "an event older than the stream holds, or one that cannot be read"


def _proof_lines(delivered: DeliveredEvent) -> Iterator[tuple[str, str]]:
    if delivered.proof is not None:
        yield "", proof_words(delivered.proof)
    for letter in delivered.dead_letters:
        tries = f" after {letter.tries} tries" if letter.tries is not None else ""
        yield "", f"dead letter of {bare(letter.listener)}{tries}: {bare(letter.error)}"


def proof_words(proof: Proof) -> str:
    """The state of a logout in an app, in one line."""
    text = f"{proof.status}: {APP_STATUSES[proof.status]}"
    if proof.readers:
        text += f"; {proof.seen} of {proof.readers} readers have passed it"
    if proof.seconds is not None:
        text += f"; handled {proof.seconds:.3f} s after its arrival"
    return text
