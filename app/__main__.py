"""``python -m app``: see `app.cli`."""

import sys

import app.lean  # noqa: F401  before everything else
from app.cli import main

if __name__ == "__main__":
    sys.exit(main())
