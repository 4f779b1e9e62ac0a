"""Faults in a file or an environment, and the settings that their lines name."""

from tests.config.example_settings import SHORT, another_issuer, document

CLIENT = "issuers[0].clients[0]"

FAULTS: dict[str, tuple[str, dict[str, str], list[str]]] = {
    "empty": ("", {}, ["issuers", "redis_url"]),
    "no redis_url": (document().replace("redis_url", "# redis_url"), {}, ["redis_url"]),
    "an empty redis_url": (document(), {"BCL_REDIS_URL": ""}, ["BCL_REDIS_URL"]),
    "embedded in another case": (document(), {"BCL_REDIS_URL": "Embedded"}, ["BCL_REDIS_URL"]),
    "an http URL for Redis": (document(), {"BCL_REDIS_URL": "http://h"}, ["BCL_REDIS_URL"]),
    "a Redis URL without a host": (document(), {"BCL_REDIS_URL": "redis://"}, ["BCL_REDIS_URL"]),
    "a Redis URL with text for a port": (
        document(), {"BCL_REDIS_URL": "redis://h:redis"}, ["BCL_REDIS_URL"],
    ),
    "a Redis URL with text for a database": (
        document(), {"BCL_REDIS_URL": "redis://h/prod"}, ["BCL_REDIS_URL"],
    ),
    "a Redis URL with an unknown option": (
        document(), {"BCL_REDIS_URL": "redis://h?retries=9"}, ["BCL_REDIS_URL"],
    ),
    "a Redis URL with a timeout of its own": (
        document(), {"BCL_REDIS_URL": "redis://h?socket_timeout=60"}, ["BCL_REDIS_URL"],
    ),
    "a Redis URL with a wrong option": (
        document(), {"BCL_REDIS_URL": "redis://h?protocol=9"}, ["BCL_REDIS_URL"],
    ),
    "a number for redis_url": (
        document().replace('"redis://127.0.0.1:6379/0"', "6379"), {}, ["redis_url"],
    ),
    "no issuer": ('redis_url = "redis://h"', {}, ["issuers"]),
    "an empty list of issuers": ('redis_url = "redis://h"\nissuers = []', {}, ["issuers"]),
    "issuers that are not tables": (
        'redis_url = "redis://h"\nissuers = ["https://op.example"]', {}, ["issuers[0]"],
    ),
    "an issuer without clients": (
        'redis_url = "redis://h"\n[[issuers]]\nissuer = "https://op.example"', {},
        ["issuers[0].clients"],
    ),
    "an issuer with an empty list of clients": (
        'redis_url = "redis://h"\n[[issuers]]\nissuer = "https://op.example"\nclients = []', {},
        ["issuers[0].clients"],
    ),
    "an unknown setting": (document(top="colour = 1"), {}, ["colour"]),
    "an unknown setting of an issuer": (document(issuer="jwks = 1"), {}, ["issuers[0].jwks"]),
    "an unknown setting of a client": (document(client="secret = 1"), {}, [f"{CLIENT}.secret"]),
    "a client's setting on an issuer": (
        document(issuer='max_session_age = "1d"'), {}, ["issuers[0].max_session_age"],
    ),
    "an unknown variable": (document(), {"BCL_COLOUR": "1"}, ["BCL_COLOUR"]),
    "a variable in lower case": (document(), {"BCL_Listen": "h:1"}, ["BCL_Listen"]),
    "a variable without a name": (document(), {"BCL_": "1"}, ["BCL_"]),
    "issuers as a variable": (document(), {"BCL_ISSUERS": "[]"}, ["BCL_ISSUERS"]),
    "short form together with a table": (
        document(), {"BCL_ISSUER": "https://x", "BCL_APP": "x"}, ["BCL_APP", "BCL_ISSUER"],
    ),
    "short form without a client": (
        "", {k: v for k, v in SHORT.items() if k != "BCL_CLIENT_ID"}, ["BCL_CLIENT_ID"],
    ),
    "short form without an issuer": (
        "", {k: v for k, v in SHORT.items() if k != "BCL_ISSUER"}, ["BCL_ISSUER"],
    ),
    "short form in a file without a client": (
        'redis_url = "redis://h"\nissuer = "https://op.example"', {}, ["client_id"],
    ),
    "short form with wrong values": (
        "", SHORT | {"BCL_ISSUER": "op", "BCL_APP": "Shop", "BCL_MAX_SESSION_AGE": "long",
                     "BCL_JWKS_URI": "keys"},
        ["BCL_APP", "BCL_ISSUER", "BCL_JWKS_URI", "BCL_MAX_SESSION_AGE"],
    ),
    "an http issuer": (document().replace("https:", "http:"), {}, ["issuers[0].issuer"]),
    "an http issuer that looks like loopback": (
        document().replace("https://op.example/", "http://127.0.0.1.example/"), {},
        ["issuers[0].issuer"],
    ),
    "http allowed only on another issuer": (
        document(rest=another_issuer('app = "b"', issuer="allow_http = true")).replace(
            "https://op", "http://op"
        ).replace('client_id = "shop-web"\n\n', 'client_id = "shop-web"\napp = "a"\n'), {},
        ["issuers[0].issuer"],
    ),
    "http keys of an https issuer": (
        document(issuer='jwks_uri = "http://op.example/keys"'), {}, ["issuers[0].jwks_uri"],
    ),
    "an issuer that is not a URL": (
        document().replace("https://op.example/", "op.example"), {}, ["issuers[0].issuer"],
    ),
    "an issuer with a query": (
        document().replace("op.example/", "op.example/?"), {}, ["issuers[0].issuer"],
    ),
    "an issuer with a fragment": (
        document().replace("op.example/", "op.example/#x"), {}, ["issuers[0].issuer"],
    ),
    "an issuer with a space": (
        document().replace("op.example/", "op.example/ "), {}, ["issuers[0].issuer"],
    ),
    "an issuer with a user": (
        document().replace("op.example/", "u@op.example/"), {}, ["issuers[0].issuer"],
    ),
    "an empty issuer": (
        document().replace("https://op.example/", ""), {}, ["issuers[0].issuer"],
    ),
    "alg none": (
        document(issuer='algorithms = ["none"]'), {}, ["issuers[0].algorithms[0]"],
    ),
    "a symmetric alg together with a good one": (
        document(issuer='algorithms = ["RS256", "HS256"]'), {}, ["issuers[0].algorithms[1]"],
    ),
    "an alg in another case": (
        document(issuer='algorithms = ["rs256"]'), {}, ["issuers[0].algorithms[0]"],
    ),
    "no alg": (document(issuer="algorithms = []"), {}, ["issuers[0].algorithms"]),
    "a symmetric alg for all": (document(), {"BCL_ALGORITHMS": "HS256"}, ["algorithms[0]"]),
    "a client id that is no app name": (
        document().replace("shop-web", "Shop Web"), {}, [f"{CLIENT}.app"],
    ),
    "an app that is no app name": (document(client='app = "Shop"'), {}, [f"{CLIENT}.app"]),
    "an app of 64 characters": (
        document(client=f'app = "{"a" * 64}"'), {}, [f"{CLIENT}.app"],
    ),
    "an empty app": (document(client='app = ""'), {}, [f"{CLIENT}.app"]),
    "an empty client id": (document().replace("shop-web", ""), {}, [f"{CLIENT}.client_id"]),
    "one app under two issuers, not set": (
        document(rest=another_issuer("")), {}, [f"{CLIENT}.app", "issuers[1].clients[0].app"],
    ),
    "one app under two issuers, set in the first": (
        document(client='app = "shop-web"', rest=another_issuer("")), {},
        ["issuers[1].clients[0].app"],
    ),
    "one app under two issuers, set in the second": (
        document(rest=another_issuer('app = "shop-web"', client_id="two")), {}, [f"{CLIENT}.app"],
    ),
    "two ages of one app": (
        document(
            client='app = "shop"\nmax_session_age = "1d"',
            rest=another_issuer('app = "shop"\nmax_session_age = "2d"'),
        ), {}, ["issuers[1].clients[0].max_session_age"],
    ),
    "two ages of one app, one of them the default": (
        document(client='app = "shop"', rest='[[issuers.clients]]\nclient_id = "b"\n'
                 'app = "shop"\nmax_session_age = "2d"'),
        {}, ["issuers[0].clients[1].max_session_age"],
    ),
    "two values of both_claims in one app and issuer": (
        document(client='app = "shop"', rest='[[issuers.clients]]\nclient_id = "b"\n'
                 'app = "shop"\nboth_claims = "user"'),
        {}, ["issuers[0].clients[1].both_claims"],
    ),
    "an age that is not a duration is not compared": (
        document(
            client='app = "shop"\nmax_session_age = "long"',
            rest='[[issuers.clients]]\nclient_id = "b"\napp = "shop"\nmax_session_age = "2d"',
        ), {}, [f"{CLIENT}.max_session_age"],
    ),
    "a default that is not a duration is not compared": (
        document(
            top='max_session_age = "long"', client='app = "shop"',
            rest='[[issuers.clients]]\nclient_id = "b"\napp = "shop"\nmax_session_age = "2d"',
        ), {}, ["max_session_age"],
    ),
    "a fault of one issuer and a rule of another": (
        document(
            issuer='leeway = "soon"', client='app = "shop"',
            rest=another_issuer('app = "wiki"').replace("https:", "http:"),
        ), {}, ["issuers[0].leeway", "issuers[1].issuer"],
    ),
    "an app that is not known leaves the rule of account_apps open": (
        document(client='app = "Shop"', top='account_listen = "127.0.0.1:7000"\n'
                 f'account_apps = [{{app = "wiki", token = "{"x" * 32}"}}]'),
        {}, [f"{CLIENT}.app"],
    ),
    "an unknown both_claims": (
        document(client='both_claims = "all"'), {}, [f"{CLIENT}.both_claims"],
    ),
    "one client id twice": (
        document(rest='[[issuers.clients]]\nclient_id = "shop-web"'), {},
        ["issuers[0].clients[1].client_id"],
    ),
    "one issuer twice": (
        document(client='app = "shop"', rest=another_issuer('app = "shop"').replace(
            "second.example", "op.example")), {}, ["issuers[1].issuer"],
    ),
    "another issuer's name as an alias": (
        document(client='app = "shop"', rest=another_issuer(
            'app = "shop"', issuer='aliases = ["https://x", "https://op.example/"]')), {},
        ["issuers[1].aliases[1]"],
    ),
    "one alias twice": (
        document(issuer='aliases = ["https://a.example", "https://a.example"]'), {},
        ["issuers[0].aliases[1]"],
    ),
    "its own name as an alias": (
        document(issuer='aliases = ["https://op.example/"]'), {}, ["issuers[0].aliases[0]"],
    ),
    "an alias that is not a URL": (
        document(issuer='aliases = ["op"]'), {}, ["issuers[0].aliases[0]"],
    ),
    "a port alone": (document(), {"BCL_LISTEN": "8000"}, ["BCL_LISTEN"]),
    "a port above 65535": (document(), {"BCL_LISTEN": "h:65536"}, ["BCL_LISTEN"]),
    "a bare IPv6 address": (document(), {"BCL_ADMIN_LISTEN": "::1:80"}, ["BCL_ADMIN_LISTEN"]),
    "a leeway above ten minutes": (document(top='leeway = "11m"'), {}, ["leeway"]),
    "an age of zero": (document(client="max_session_age = 0"), {}, [f"{CLIENT}.max_session_age"]),
    "a token age above a day": (
        document(issuer='max_token_age = "25h"'), {}, ["issuers[0].max_token_age"],
    ),
    "a boolean for a number": (document(top="event_max_len = true"), {}, ["event_max_len"]),
    "a boolean for a duration": (document(top="keep_alive = true"), {}, ["keep_alive"]),
    "text for a boolean": (document(top='strict = "strict"'), {}, ["strict"]),
    "a fraction for a port": (document(top="embedded_port = 1.5"), {}, ["embedded_port"]),
    "port 0 for the embedded server": (document(top="embedded_port = 0"), {}, ["embedded_port"]),
    "an empty data_dir": (document(), {"BCL_DATA_DIR": ""}, ["BCL_DATA_DIR"]),
    "a NUL in data_dir": (document(top='data_dir = "a\\u0000b"'), {}, ["data_dir"]),
    "a table for a duration": (document(top="leeway = {seconds = 1}"), {}, ["leeway"]),
    "a huge integer": (document(top=f"leeway = {'9' * 400}"), {}, ["leeway"]),
}  # fmt: skip
