"""The admin API in OpenAPI 3.1, as `/api/openapi.json` serves it."""

from functools import cache
from typing import Any

from app.admin.openapi_schemas import SCHEMAS
from app.admin.revocations import NewRevocation
from app.audit import FREE_NAME
from app.formatting import TIME_FORMS

Json = dict[str, Any]

# What can stand between two slashes, and is not encoded twice: see
# `app.sessions.api_client.path_segment`.
_ID = r"^(?!\.{1,2}$)(?!.*%[0-9A-Fa-f]{2})[^\u0000-\u001f\u007f-\u009f/\\]+$"
_VALUE = r"^[^\u0000-\u001f\u007f-\u009f]+$"

_TIME = (
    r"^([0-9]{1,14}(\.[0-9]{1,9})?|20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)$"
)

_ISSUER = "Which issuer, by any of its names; needed where several have a session API."
_USER = "Its user; spares a provider that finds sessions by user (Keycloak) a search."


@cache
def document() -> Json:
    """The whole document."""
    schemas = dict(SCHEMAS)
    schemas["NewRevocation"] = NewRevocation.model_json_schema()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Back-channel logout receiver: admin API",
            "version": "1",
            "description": "For operators, on the admin listener alone. Every answer is no-store.",
        },
        "security": [{"admin_token": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"admin_token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
        },
    }


def _paths() -> Json:
    user, session = "/api/users/{user}/sessions", "/api/sessions/{session}"
    ids = "Percent-encoded as one segment of the path."
    return {
        user: {
            "parameters": [_in_path("user", f"The user's id at the provider (`sub`). {ids}")],
            "get": _operation(
                "listSessions",
                "A page of a user's sessions, as the provider tells them now.",
                [_query("issuer", _ISSUER), _query("page", "`next` of the page before.")],
                {200: "Sessions"},
                _PROVIDER,
            ),
            "delete": _operation(
                "endSessions",
                "End all sessions of a user, or all but one, and follow each to its end.",
                [
                    _query("issuer", _ISSUER),
                    _query("except", "The session that stays. Unknown: 409, and none is ended."),
                    _flag("refresh_tokens", "End refresh tokens that would outlive the session."),
                    *_WHO_AND_WHY,
                ],
                {200: "Endings", 202: "Endings"},
                [*_PROVIDER, 409],
            ),
        },
        user + "/state": {
            "parameters": [_in_path("user", f"The user's id at the provider (`sub`). {ids}")],
            "get": _operation(
                "readEndingOfUser",
                "How far the end of all sessions of a user is: the newest such end.",
                [_query("issuer", _ISSUER)],
                {200: "Ending"},
                [400, 404, 503],
            ),
        },
        session: {
            "parameters": [_in_path("session", f"The session's id, its `sid`. {ids}")],
            "get": _operation(
                "readSession",
                "One session: what the provider says of it, and how it is in each app.",
                [
                    _query("issuer", _ISSUER),
                    _query("user", _USER, maxLength=255, pattern=_ID),
                ],
                {200: "SessionAndApps"},
                _PROVIDER,
            ),
            "delete": _operation(
                "endSession",
                "End a session, and follow that to its end. 200: it is gone, as ended before.",
                [
                    _query("issuer", _ISSUER),
                    _query("user", _USER, maxLength=255, pattern=_ID),
                    _flag("refresh_tokens", "End refresh tokens that would outlive the session."),
                    *_WHO_AND_WHY,
                ],
                {200: "Ending", 202: "Ending"},
                [*_PROVIDER, 409],
            ),
        },
        session + "/state": {
            "parameters": [_in_path("session", f"The session's id. {ids}")],
            "get": _operation(
                "readEnding",
                "How far the end of a session is: asked, gone, received, written, proven.",
                [_query("issuer", _ISSUER)],
                {200: "Ending"},
                [400, 404, 503],
            ),
        },
        "/api/revocations": {
            "get": _operation(
                "readRevocations",
                "The history of a session, a user, or an issuer: dead or alive, since when, by"
                " which token, and which apps have acted.",
                [
                    _query("issuer", "Needed where there are several."),
                    _query("sid", "The session."),
                    _query("sub", "The user."),
                    _query(
                        "login_at", f"`iat` of the login's ID token: {TIME_FORMS}.", pattern=_TIME
                    ),
                    _query("app", "This app alone."),
                ],
                {200: "Stories"},
                [400, 404, 503],
            ),
            "post": _operation(
                "writeRevocation",
                "End a session, a user's sessions, or all of an issuer in an app, up to now,"
                " without the provider.",
                [],
                {201: "Written", 503: "NotWritten"},
                [400, 404, 413, 415, 422],
                body="NewRevocation",
            ),
        },
        "/api/issuers": {
            "get": _operation("listIssuers", "The issuers.", [], {200: "Issuers"}, [400])
        },
        "/api/apps": {
            "get": _operation("listApps", "The relying apps at a glance.", [], {200: "Apps"}, [400])
        },
        "/api/feed": {"get": _feed()},
        "/api/openapi.json": {
            "get": _operation("readDocument", "This document.", [], {200: "Document"}, [400])
        },
    }


# What every path may answer: the gate.
_GATE = [401, 403, 429]

# What a provider's session API can bring.
_PROVIDER = [400, 404, 502, 503, 504]

_TEXTS = {
    200: "It is so.", 201: "Written, and durable.", 202: "Begun; it is followed to its end.",
    400: "The request can not be understood.", 401: "The admin token is missing or wrong.",
    403: "The Host is none of this listener's, or a page of another origin asks.",
    404: "There is no such thing.",
    409: "The session to keep is none of the user's, or this one is refresh tokens alone.",
    413: "The body is too large.",
    415: "The body is not JSON.", 422: "The request is understood and can not be done.",
    429: "Too many wrong tokens.", 502: "The provider's session API refuses, or does not work.",
    503: "Our side, or a limit of the provider; see Retry-After.",
    504: "The provider's session API is too slow.",
}  # fmt: skip


def _operation(
    name: str,
    summary: str,
    parameters: list[Json],
    answers: dict[int, str],
    faults: list[int],
    *,
    body: str | None = None,
) -> Json:
    found: Json = {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            str(status): {
                "description": _TEXTS[status],
                "content": {"application/json": {"schema": _ref(answers.get(status, "Error"))}},
            }
            for status in sorted({*answers, *faults, *_GATE})
        },
    }
    if body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(body)}},
        }
    return found


def _feed() -> Json:
    found = _operation(
        "listen",
        "Every logout and refusal as it happens, as server-sent events.",
        [
            _query("app", "This app alone."),
            _flag("refusals", "Refusals, too; true if it is not said."),
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The id of the last event that was read: the feed goes on there.",
                "schema": {"type": "string"},
            },
        ],
        {},
        [400, 404, 503],
    )
    events = {"text/event-stream": {"schema": {"type": "string"}}}
    found["responses"]["200"] = {"description": "The feed.", "content": events}
    return found


def _in_path(name: str, text: str) -> Json:
    schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": _ID}
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def _query(name: str, text: str, **schema: Any) -> Json:
    return {
        "name": name,
        "in": "query",
        "description": text,
        "schema": {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": _VALUE} | schema,
    }


def _flag(name: str, text: str) -> Json:
    return {
        "name": name,
        "in": "query",
        "description": text,
        "schema": {"type": "string", "enum": ["true", "false"]},
    }


_WHO_AND_WHY = [
    _query("by", "Who asks; for the audit.", allOf=[{"pattern": FREE_NAME}]),
    _query("reason", "Why; for the audit."),
]


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
