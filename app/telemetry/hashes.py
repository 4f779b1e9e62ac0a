"""Keyed hashes of users and sessions, for the log and the stream of refusals.

A plain hash of a user's id is found again by hashing all ids; with a key, only by those who have
the key. Every replica and the command line use the same key, so operators can search for a user;
see `shared_key`.
"""

import base64
import hashlib
import secrets
from typing import Any

from app.config.model import Settings
from backchannel_logout.redis.connection import AsyncClient

HASH_KEY = "bcl:v1:hash_key"
"""Where Redis stores the key if the settings have none: 64 hexadecimal digits, made once."""

# Bytes, 16 characters: enough that no two names of a provider collide.
LENGTH = 12


class KeyedHash:
    """Keyed BLAKE2b (RFC 7693) of a text, `LENGTH` bytes, as base64url."""

    def __init__(self, key: bytes) -> None:
        if len(key) > hashlib.blake2b.MAX_KEY_SIZE:  # 64 bytes
            key = hashlib.blake2b(key).digest()
        self._keyed = hashlib.blake2b(key=key, digest_size=LENGTH)

    def __call__(self, value: str) -> str:
        keyed = self._keyed.copy()  # half the time of a new one, twice per token
        keyed.update(value.encode())
        return base64.urlsafe_b64encode(keyed.digest()).decode()


def configured(settings: Settings) -> KeyedHash | None:
    """With the key of the settings; None where they have none."""
    key = settings.hash_key
    return None if key is None else KeyedHash(key.get_secret_value().encode())


async def keyed_hash(settings: Settings, client: AsyncClient) -> KeyedHash:
    """With the key of the settings, else the one in Redis. Raises the errors of redis-py."""
    return configured(settings) or KeyedHash(await shared_key(client))


async def shared_key(client: AsyncClient, own: bytes | None = None) -> bytes:
    """The key that all replicas share; creates it if there is none.

    ``own`` is the key in use. A Redis that has lost it gets it back, so that earlier hashes can
    still be found. Raises the errors of redis-py.
    """
    commands: Any = client
    await commands.set(HASH_KEY, own or secrets.token_hex(32), nx=True)
    key: bytes = await commands.get(HASH_KEY)
    return key
