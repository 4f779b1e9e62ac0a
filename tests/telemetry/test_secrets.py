"""No secret reaches the log or the refusals, whatever happens to a token."""

import sys
from pathlib import Path

import pytest
import redis

from app.store.operator_streams import REFUSED
from tests.support.providers.provider import Provider, private_key
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow

PASSWORD, HASH_KEY = "redis-sesame", "hash-sesame-0123456789"

# A receiver with a bug: the rules fail for Mallory, with the claims in the exception's message.
FAULTY = """
import sys
from app.tokens import logout_token
validate = logout_token.validate
def faulty(signed, **options):
    claims = signed.claims
    if claims.get("sub") == "mallory-sub":
        raise KeyError(f"{claims}")
    return validate(signed, **options)
logout_token.validate = faulty
from app.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_outcome_of_a_token_reveals_a_secret(
    log_format: str, tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """Accepted, repeated, refused, without a key, without Redis, and with an internal error."""
    with redis_server.client() as client:
        client.config_set("requirepass", PASSWORD)
    url = redis_server.url.replace("//", f"//:{PASSWORD}@")
    top = f'log_format = "{log_format}"\nhash_key = "{HASH_KEY}"\njournal = "off"'
    toml = config(url, f'issuer = "{provider.issuer}"', top=top)
    program = (sys.executable, "-c", FAULTY)
    receiver = Receiver(tmp_path / "receiver", toml, program=program).start()
    sent = [good := provider.token(sid="good-sid", sub="good-sub", jti="good-jti")]
    try:
        assert receiver.post(good).status_code == 200
        assert receiver.post(good).status_code == 200
        sent.append(provider.token(sid="forged-sid", key=private_key("RS256", 9)))
        assert receiver.post(sent[-1]).status_code == 400
        sent.append(provider.token(sid="nonce-sid", nonce="nonce-value"))
        assert receiver.post(sent[-1]).status_code == 400
        sent.append(provider.token(sub="mallory-sub", sid="mallory-sid"))
        assert receiver.post(sent[-1]).status_code == 503
        wait_for(lambda: "KeyError" in receiver.log, "the error is logged", receiver)
        with redis.Redis.from_url(url, decode_responses=True) as client:
            wait_for(lambda: client.xlen(REFUSED) == 2, "refusals are written", receiver)
            refused = str(client.xrange(REFUSED))
        redis_server.stop()
        sent.append(provider.token(sid="outage-sid", sub="outage-sub"))
        assert receiver.post(sent[-1]).status_code == 503
        provider.mode = "500"
        provider.rotate("k2")
        sent.append(provider.token(sid="parked-sid", sub="parked-sub"))
        assert receiver.post(sent[-1]).status_code == 503
    finally:
        receiver.stop()
    output = receiver.full_log + refused
    for outcome in ("accepted", "repeated", "refused", "unavailable"):
        assert outcome in output
    named = ("-sid", "-sub", "-jti", "nonce-value", PASSWORD, HASH_KEY)
    for secret in (*named, *(part for token in sent for part in token.split("."))):
        assert secret not in output
