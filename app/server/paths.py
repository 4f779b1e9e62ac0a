"""The one path of the public listener."""

LOGOUT_PATH = "/backchannel-logout"
