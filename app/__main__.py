"""``python -m app``: see `app.cli`."""

import sys

import app.runtime.import_diet  # noqa: F401  before everything else
from app.cli import main

if __name__ == "__main__":
    sys.exit(main())
