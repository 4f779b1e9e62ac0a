"""``python -m app keys``: the keys of both sides.

keys          prints the public decryption keys, for providers to encrypt to: a JSON Web Key Set
              (RFC 7517) for the ``jwks`` of a client or a file behind its ``jwks_uri``. It
              holds no private keys.
keys fetch    fetches an issuer's keys now, in every running receiver on this Redis
"""

import argparse
import asyncio
import json
import logging
import sys
import time
from typing import Any
from uuid import uuid4

from app.audit import RESERVED_NAME, Act, Audit, is_reserved
from app.cli.common import WrongUsage, issuer_of, opened, own_name
from app.cli.status import readyz
from app.config.model import Settings
from app.formatting import bare, fetch_fault
from app.store.errors import EXCHANGE_FAULTS
from app.tokens.asked_fetches import ACT
from app.verdict import count

HELP = "print the public decryption keys; or fetch an issuer's keys in every receiver"

# A receiver reads the request within a second; discovery and the key set may take 5 s each.
_WAIT_SECONDS = 13.0
_POLL_SECONDS = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", choices=["fetch"],
        help="fetch an issuer's keys now, in every running receiver on this Redis",
    )  # fmt: skip
    parser.add_argument("--issuer", metavar="ISS", help="fetch: whose; needed if there are several")
    parser.add_argument("--reason", metavar="TEXT", help="fetch: why; for the audit")
    parser.add_argument(
        "--by", metavar="NAME", help="fetch: who; for the audit (default: the login name)"
    )


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    if arguments.action == "fetch":
        return _fetch(settings, arguments)
    keys = {key: key.public for issuer in settings.issuers for key in issuer.keys_to_decrypt}
    if not keys:
        print("there are no decryption_keys in the settings", file=sys.stderr)
        return 1
    print(json.dumps({"keys": list(keys.values())}, indent=2))
    return 0


def _fetch(settings: Settings, arguments: argparse.Namespace) -> int:
    issuer, _ = issuer_of(settings, arguments.issuer)
    by = arguments.by or own_name()
    if is_reserved(by):
        raise WrongUsage(f"--by: {RESERVED_NAME}")
    # If Redis does not take the audit entry, its log line is the only record.
    logging.getLogger("app.audit").setLevel(logging.INFO)
    act = Act(
        act=ACT, who=by, why=arguments.reason, outcome="asked", iss=issuer.issuer,
        request_id=uuid4().hex,
    )  # fmt: skip
    return asyncio.run(_ask(settings, act, issuer.issuer))


async def _ask(settings: Settings, act: Act, issuer: str) -> int:
    """Ask every receiver, and report what the one at ``admin_listen`` has fetched."""
    asked_at = time.monotonic()
    async with opened(settings) as link:
        try:
            await Audit(link.client, lambda _: "unknown").write(act)
        except EXCHANGE_FAULTS as error:
            print(f"no receiver was asked: Redis: {type(error).__name__}", file=sys.stderr)
            return 1
    print(f"every receiver on this Redis fetches the keys of {bare(issuer)} within a second")
    keys: dict[str, Any] = {}
    while (waited := time.monotonic() - asked_at) < _WAIT_SECONDS:
        ready = await readyz(settings)
        if ready is None:
            print("no receiver answers here; `status` on its host, or /readyz, has the result")
            return 0
        keys = ready["issuers"].get(issuer, {})
        age = keys.get("age_seconds")
        if age is not None and age < waited:
            print(f"the receiver here has {count(keys['keys'], 'key')}, fetched just now")
            return 0
        await asyncio.sleep(_POLL_SECONDS)
    fault = keys.get("error")
    detail = fetch_fault(fault) if fault else "no fetch since"
    print(f"the receiver here keeps its {count(keys.get('keys', 0), 'key')}: {detail}")
    return 1
