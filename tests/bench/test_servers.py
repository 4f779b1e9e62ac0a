"""The measured servers do their work: they apply genuine tokens and refuse forged ones."""

import pytest
from cryptography.exceptions import InvalidSignature

from bench.servers import NotMeasured, Rig, asgi, check, receiver
from bench.tokens import ALGORITHMS, Mint, minting

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_ceiling_verifies_every_signature(algorithm: str) -> None:
    with minting(algorithm) as (provider, mint):
        keys = asgi.public_keys(provider.jwks())
        for token in mint.sign(8):
            assert asgi.verified(token.text, keys)["sid"] == token.sid
            with pytest.raises((InvalidSignature, ValueError)):
                asgi.verified(token.forged().text, keys)


def test_the_ceiling_answers_200_to_genuine_tokens_and_400_to_forged_ones(
    rig: Rig, mint: Mint
) -> None:
    with asgi.running(rig, "ceiling") as server:
        check(server, mint.sign(5))


def test_a_server_that_accepts_everything_is_not_measured(rig: Rig, mint: Mint) -> None:
    with (
        asgi.running(rig, "bare") as server,
        pytest.raises(RuntimeError, match="answered forged tokens"),
    ):
        check(server, mint.sign(5))


def test_the_receiver_ends_the_sessions_of_the_load(rig: Rig, mint: Mint) -> None:
    with receiver.running(rig) as server:
        tokens = mint.sign(5)
        check(server, tokens)
        assert not server.ended(mint.sign(1)), "a session that was not ended"


def test_an_unknown_setting_is_reported_as_not_measured(
    rig: Rig,
) -> None:
    with (
        pytest.raises(NotMeasured, match="no_such_setting"),
        receiver.running(rig, top="no_such_setting = 2"),
    ):
        pytest.fail("it has started")


def test_every_token_is_fresh(mint: Mint) -> None:
    tokens = mint.sign(600)
    assert len({token.text for token in tokens}) == 600
    assert len({token.sid for token in tokens}) == 600
