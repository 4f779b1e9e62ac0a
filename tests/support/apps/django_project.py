"""Configures Django, which a process can do only once, for every test module."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections


@contextmanager
def django_project(directory: Path) -> Iterator[None]:
    """A project with a new database."""
    file = str(directory / "db.sqlite3")
    if not settings.configured:
        settings.configure(
            SECRET_KEY="only of these tests",
            DATABASES={
                "default": {
                    "ENGINE": "django.db.backends.sqlite3",
                    "NAME": file,
                    "OPTIONS": {"init_command": "PRAGMA synchronous=OFF"},  # nothing must survive
                }
            },
            INSTALLED_APPS=[
                f"django.contrib.{app}" for app in ("auth", "contenttypes", "sessions")
            ],
            SESSION_ENGINE="django.contrib.sessions.backends.db",
            LOGIN_URL="/login",
        )
        django.setup()
    connections.close_all()
    connections["default"].settings_dict["NAME"] = file
    call_command("migrate", verbosity=0)
    yield
    connections.close_all()
