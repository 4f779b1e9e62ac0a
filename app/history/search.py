"""Searches for an id: tokens about it that were not applied, and issuers that know it."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from functools import partial

from app.history.app_reader import AppReader, Command, required
from app.history.audit_stream import RefusalEntry
from app.history.records import RevocationQuery
from app.history.streams import Entry, newest_first
from app.store.operator_streams import REFUSED
from backchannel_logout import AppKeys

Hashed = Callable[[str], str]
"""The keyed hash by which refusals identify users and sessions."""

# Refused tokens examined per query. An open page repeats its query.
_MAX_REFUSED = 5_000

# Refusals returned per session or user.
_MAX_MATCHES = 20

# Events of each app examined for an id without a marker.
_MAX_EVENTS = 20_000

# Commands in one round trip.
_COMMANDS_PER_EXCHANGE = 500


async def refusals_about(
    reader: AppReader, query: RevocationQuery, hashed: Hashed, issuers: Collection[str]
) -> list[RefusalEntry]:
    """Tokens about this session or user that were refused or wait, newest first.

    From this issuer, or from one that is not configured: a token with a misspelled issuer can be
    why nothing happened. Raises `Unreadable`.
    """
    sid = None if query.sid is None else hashed(query.sid).encode()
    sub = None if query.sub is None else hashed(query.sub).encode()
    matches: list[RefusalEntry] = []
    async for page in _refused(reader):
        for entry_id, fields in page:
            if not _concerns(fields, sid, sub):
                continue
            refusal = RefusalEntry.from_fields(entry_id, fields)
            if refusal.iss == query.iss or refusal.iss not in issuers:
                matches.append(refusal)
        if len(matches) >= _MAX_MATCHES:
            break
    return matches[:_MAX_MATCHES]


async def issuers_knowing(
    reader: AppReader,
    names_by_app: Mapping[str, Collection[str]],
    query: RevocationQuery,
    hashed: Hashed | None,
) -> list[str]:
    """The issuers, by name, that know the id: from its markers, else from events and refusals.

    ``query.iss`` is ignored. Raises `Unreadable`.
    """
    issuers: set[str] = set()
    for app, names in names_by_app.items():
        issuers |= await _with_markers(reader, app, names, query)
    if issuers:
        return sorted(issuers)
    for app, names in names_by_app.items():
        issuers |= await _with_events(reader, app, query) & set(names)
    if hashed is not None:
        known = {name for names in names_by_app.values() for name in names}
        sid = None if query.sid is None else hashed(query.sid).encode()
        sub = None if query.sub is None else hashed(query.sub).encode()
        async for page in _refused(reader):
            issuers |= {
                fields.get(b"iss", b"").decode("utf-8", "replace")
                for _, fields in page
                if _concerns(fields, sid, sub)
            } & known
    return sorted(issuers)


async def _with_markers(
    reader: AppReader, app: str, names: Collection[str], query: RevocationQuery
) -> set[str]:
    keys = AppKeys(app)
    commands: list[tuple[str, Command]] = []
    for iss in names:
        if query.sid is not None:
            commands.append((iss, ("GET", keys.sid(iss, query.sid))))
        if query.sub is not None:
            commands.append((iss, ("GET", keys.sub(iss, query.sub))))
    issuers: set[str] = set()
    for start in range(0, len(commands), _COMMANDS_PER_EXCHANGE):
        batch = commands[start : start + _COMMANDS_PER_EXCHANGE]
        answers = await reader.query_app(app, [command for _, command in batch])
        issuers |= {
            iss
            for (iss, _), marker in zip(batch, answers, strict=True)
            if required(marker) is not None
        }
    return issuers


async def _with_events(reader: AppReader, app: str, query: RevocationQuery) -> set[str]:
    sid = None if query.sid is None else query.sid.encode()
    sub = None if query.sub is None else query.sub.encode()
    issuers: set[str] = set()
    ask = partial(reader.query_app, app)
    async for page in newest_first(ask, AppKeys(app).events, limit=_MAX_EVENTS):
        for _, fields in page:
            own_sid = sid is not None and fields.get(b"sid") == sid
            if own_sid or (sub is not None and fields.get(b"sub") == sub):
                issuers.add(fields.get(b"iss", b"").decode("utf-8", "replace"))
    return issuers


def _concerns(fields: Mapping[bytes, bytes], sid: bytes | None, sub: bytes | None) -> bool:
    """Whether the refusal is about the session, or about its user if it names no session.

    Reads the raw fields, because most entries do not match.
    """
    own_sid, own_sub = fields.get(b"sid_hash"), fields.get(b"sub_hash")
    if sid is not None and own_sid is not None:
        return own_sid == sid
    return sub is not None and own_sub == sub


def _refused(reader: AppReader) -> AsyncIterator[list[Entry]]:
    return newest_first(partial(reader.query_key, REFUSED), REFUSED, limit=_MAX_REFUSED)
