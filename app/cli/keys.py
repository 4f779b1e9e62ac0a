"""``python -m app keys``: prints the public decryption keys, for providers to encrypt to.

A JSON Web Key Set (RFC 7517) for the ``jwks`` of a client, or for a file behind its ``jwks_uri``.
It holds no private keys.
"""

import argparse
import json
import sys

from app.config.model import Settings

HELP = "print the public halves of the decryption keys, as a JSON Web Key Set"


def run(settings: Settings, _: argparse.Namespace) -> int:
    keys = {key: key.public for issuer in settings.issuers for key in issuer.keys_to_decrypt}
    if not keys:
        print("there are no decryption_keys in the settings", file=sys.stderr)
        return 1
    print(json.dumps({"keys": list(keys.values())}, indent=2))
    return 0
