"""Users' own sessions in Flask:

app.register_blueprint(account_blueprint("http://receiver:9100", token=...))
"""

from urllib.parse import quote, unquote

import flask

from backchannel_logout.account import PREFIX, AccountProxy


def account_blueprint(url: str, token: str, *, prefix: str = PREFIX) -> flask.Blueprint:
    """A blueprint below ``prefix``. Pages poll each second while a session ends: an event stream
    would occupy a worker for each of them."""
    proxy = AccountProxy(url, token)
    blueprint = flask.Blueprint("backchannel_logout_account", __name__, url_prefix=prefix)

    @blueprint.route("", defaults={"path": ""}, methods=["GET"])
    @blueprint.route("/<path:path>", methods=["GET", "DELETE"])
    def account(path: str) -> flask.Response:
        headers = {name.lower(): value for name, value in flask.request.headers.items()}
        below = f"/{quote(path)}" if path else ""
        answer = proxy.answer(
            flask.request.method, below, flask.session, headers,
            mounted=unquote(flask.url_for(".account")),
        )  # fmt: skip
        return flask.Response(answer.body, answer.status, answer.headers)

    return blueprint
