"""Relying apps: their streams, listeners, guards and Django project."""
