"""``python -m app keys``: the public halves of the decryption keys, for providers to encrypt to.

A JSON Web Key Set (RFC 7517), as it goes into a client's ``jwks``, or into a file behind its
``jwks_uri``. Nothing private is in it.
"""

import argparse
import json
import sys

from app.config.model import Settings

HELP = "print the public halves of the decryption keys, as a JSON Web Key Set"


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Nothing beside ``--config``."""


def run(settings: Settings, _: argparse.Namespace) -> int:
    keys = {key: key.public for one in settings.issuers for key in one.keys_to_decrypt}
    if not keys:
        print("there are no decryption_keys in the settings", file=sys.stderr)
        return 1
    print(json.dumps({"keys": list(keys.values())}, indent=2))
    return 0
