"""Where an id is known: the tokens about it that were not applied, and the issuers that know it."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

from app.history.app_reader import AppReader, Command, required
from app.history.audit_stream import REFUSED, RefusalEntry
from app.history.records import RevocationQuery
from app.history.streams import Entry, RunCommands, newest_first
from backchannel_logout import AppKeys

Hashed = Callable[[str], str]
"""The keyed hash under which refusals hold users and sessions."""

# Refused tokens that one question looks through: an open story asks again and again.
_MAX_REFUSED = 5_000

# That are shown of one session or user.
_MAX_MATCHES = 20

# Events of each app that are looked through for an id that no marker knows.
_MAX_EVENTS = 20_000

# Questions in one round trip.
_COMMANDS_PER_EXCHANGE = 500


async def refusals_about(
    reading: AppReader, question: RevocationQuery, hashed: Hashed, issuers: Collection[str]
) -> list[RefusalEntry]:
    """Tokens about this session or user that were refused or wait, newest first.

    Of this issuer, or of a name that no configured one has: a token with a misspelled issuer is a
    reason why nothing happened. Raises `Unreadable`.
    """
    sid = None if question.sid is None else hashed(question.sid).encode()
    sub = None if question.sub is None else hashed(question.sub).encode()
    found: list[RefusalEntry] = []
    async for page in _refused(reading):
        for entry_id, fields in page:
            if not _concerns(fields, sid, sub):
                continue
            refusal = RefusalEntry.from_fields(entry_id, fields)
            if refusal.iss == question.iss or refusal.iss not in issuers:
                found.append(refusal)
        if len(found) >= _MAX_MATCHES:
            break
    return found[:_MAX_MATCHES]


async def issuers_knowing(
    reading: AppReader,
    names_by_app: Mapping[str, Collection[str]],
    question: RevocationQuery,
    hashed: Hashed | None,
) -> list[str]:
    """The issuers, by name, that know the id: a marker of it is there; else an event or a refused
    token is about it. ``question.iss`` does not matter. Raises `Unreadable`."""
    found: set[str] = set()
    for app, names in names_by_app.items():
        found |= await _with_markers(reading, app, names, question)
    if found:
        return sorted(found)
    for app, names in names_by_app.items():
        found |= await _with_events(reading, app, question) & set(names)
    if hashed is not None:
        known = {name for names in names_by_app.values() for name in names}
        sid = None if question.sid is None else hashed(question.sid).encode()
        sub = None if question.sub is None else hashed(question.sub).encode()
        async for page in _refused(reading):
            found |= {
                fields.get(b"iss", b"").decode("utf-8", "replace")
                for _, fields in page
                if _concerns(fields, sid, sub)
            } & known
    return sorted(found)


async def _with_markers(
    reading: AppReader, app: str, names: Collection[str], question: RevocationQuery
) -> set[str]:
    keys = AppKeys(app)
    asked: list[tuple[str, Command]] = []
    for iss in names:
        if question.sid is not None:
            asked.append((iss, ("GET", keys.sid(iss, question.sid))))
        if question.sub is not None:
            asked.append((iss, ("GET", keys.sub(iss, question.sub))))
    found: set[str] = set()
    for start in range(0, len(asked), _COMMANDS_PER_EXCHANGE):
        some = asked[start : start + _COMMANDS_PER_EXCHANGE]
        answers = await reading.query_app(app, [command for _, command in some])
        found |= {
            iss for (iss, _), one in zip(some, answers, strict=True) if required(one) is not None
        }
    return found


async def _with_events(reading: AppReader, app: str, question: RevocationQuery) -> set[str]:
    async def ask(commands: Sequence[Command]) -> list[object]:
        return await reading.query_app(app, commands)

    sid = None if question.sid is None else question.sid.encode()
    sub = None if question.sub is None else question.sub.encode()
    found: set[str] = set()
    async for page in newest_first(ask, AppKeys(app).events, most=_MAX_EVENTS):
        for _, fields in page:
            own_sid = sid is not None and fields.get(b"sid") == sid
            if own_sid or (sub is not None and fields.get(b"sub") == sub):
                found.add(fields.get(b"iss", b"").decode("utf-8", "replace"))
    return found


def _concerns(fields: Mapping[bytes, bytes], sid: bytes | None, sub: bytes | None) -> bool:
    """Of the session; or of its user, where the token names no session. On the raw fields: most
    entries are of others."""
    own_sid, own_sub = fields.get(b"sid_hash"), fields.get(b"sub_hash")
    if sid is not None and own_sid is not None:
        return own_sid == sid
    return sub is not None and own_sub == sub


def _refused(reading: AppReader) -> AsyncIterator[list[Entry]]:
    ask: RunCommands = lambda commands: reading.query_key(REFUSED, commands)  # noqa: E731
    return newest_first(ask, REFUSED, most=_MAX_REFUSED)
