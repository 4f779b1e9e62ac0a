"""The prepared encoding of a command equals the packed one."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.revocation import Once
from app.store.command import Commands, packed
from backchannel_logout import EventKind
from tests.support.revocations import NOW, revocation

SHA = "0" * 40

# Including everything that JSON escapes, and characters of several bytes in UTF-8.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255)
plain = st.text(st.characters(min_codepoint=0, max_codepoint=126), min_size=1, max_size=255)
ids = texts | plain


@given(
    kind=st.sampled_from(EventKind),
    sid=ids,
    sub=ids,
    jti=st.none() | ids,
    names=st.lists(ids, min_size=1, max_size=2).map(tuple),
    client_ids=st.lists(ids, max_size=3).map(tuple),
    received_at=st.floats(0, 2**33),
    age_s=st.integers(-400, 400),
    offline=st.booleans(),
    again=st.booleans(),
)
@settings(deadline=None, max_examples=30)
@example(
    kind=EventKind.SESSION, sid="s1", sub="alice", jti="j1", names=("https://op.example",),
    client_ids=("shop-web",), received_at=NOW + 0.25, age_s=0, offline=False, again=False,
)  # fmt: skip
def test_the_prepared_encoding_equals_the_packed_one(
    kind: EventKind, sid: str, sub: str, jti: str | None, names: tuple[str], client_ids: tuple[str],
    received_at: float, age_s: int, *, offline: bool, again: bool,
) -> None:  # fmt: skip
    once = None if jti is None else Once(jti, sid, sub, NOW + 300)
    prepared = revocation(
        kind=kind, sid=sid, sub=sub, issuer_names=names, client_ids=client_ids, once=once,
        received_at=received_at, revoke_offline_access=offline,
    )  # fmt: skip
    assert prepared.json == prepared.event.to_json()
    commands = Commands(SHA, max_len=1000, max_age_ms=3600_000, clock=lambda: NOW + age_s)
    assert commands.packed(prepared, again) == packed(
        "EVALSHA", SHA, *commands.arguments(prepared, again)
    )


def test_an_ascii_logout_uses_the_prepared_encoding() -> None:
    prepared = revocation(once=Once("j1", "s1", "alice", NOW + 300))
    commands = Commands(SHA, max_len=1000, max_age_ms=3600_000, clock=lambda: NOW)
    assert commands._encode(prepared, 300_000).encode() == commands.packed(prepared)
