"""A Django backend for users who sign in with OpenID Connect, like that of a library."""

from django.contrib.auth.backends import ModelBackend


class OidcBackend(ModelBackend):
    """The view has verified the ID token; this only returns the user."""

    def authenticate(self, *_, **__):
        """None: there is no sign-in by name and password."""
