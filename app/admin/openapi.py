"""The OpenAPI 3.1 document of the admin API, served at `/api/openapi.json`.

The paths are written here; pydantic derives the schemas from the models of `responses`.
"""

import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from app.admin.key_fetches import NewKeyFetch
from app.admin.responses import (
    AppsResponse,
    IssuersResponse,
    KeysFetchedResponse,
    NotWrittenResponse,
    ReloadedResponse,
    RevocationResponse,
    SessionResponse,
    SessionsResponse,
    TerminationsResponse,
)
from app.admin.revocations import NewRevocation
from app.audit import FREE_NAME
from app.formatting import TIME_FORMS
from app.history import SessionHistory
from app.web.errors import ErrorResponse
from app.web.session_models import TerminationModel

Json = dict[str, Any]

# See `app.sessions.api_client.path_segment`: one path segment, not encoded twice.
_ID = r"^(?!\.{1,2}$)(?!.*%[0-9A-Fa-f]{2})[^\u0000-\u001f\u007f-\u009f/\\]+$"
_VALUE = r"^[^\u0000-\u001f\u007f-\u009f]+$"

_TIME = (
    r"^([0-9]{1,14}(\.[0-9]{1,9})?|20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)$"
)


_RESPONSES: tuple[Any, ...] = (
    ErrorResponse,
    SessionsResponse,
    SessionResponse,
    TerminationModel,
    TerminationsResponse,
    SessionHistory,
    RevocationResponse,
    NotWrittenResponse,
    IssuersResponse,
    KeysFetchedResponse,
    ReloadedResponse,
    AppsResponse,
)


class _SchemaGenerator(GenerateJsonSchema):
    """In an answer, a member with a default is always present."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        if self.mode == "serialization" and field["type"] != "typed-dict-field":
            return True
        return super().field_is_required(field, total)


@cache
def document() -> Json:
    """The whole document."""
    paths = _paths()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Back-channel logout receiver: admin API",
            "version": "1",
            "description": "For operators, on the admin listener alone. Every answer is no-store.",
        },
        "security": [{"admin_token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"admin_token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(paths),
        },
    }


def _schemas(paths: Json) -> Json:
    _, generated = TypeAdapter.json_schemas(
        [
            *(
                (model.__name__, "validation", TypeAdapter(model))
                for model in (NewRevocation, NewKeyFetch)
            ),
            *((model.__name__, "serialization", TypeAdapter(model)) for model in _RESPONSES),
        ],
        ref_template="#/components/schemas/{model}",
        schema_generator=_SchemaGenerator,
    )
    schemas: Json = generated["$defs"]
    # pydantic also describes the classes that `record_json` replaces by others.
    references = json.dumps([paths, schemas])
    return {name: schema for name, schema in schemas.items() if f'/{name}"' in references}


def _paths() -> Json:
    user, session = "/api/users/{user}/sessions", "/api/sessions/{session}"
    user_in_path = [_in_path("user", "The user's id at the provider (`sub`).")]
    session_in_path = [_in_path("session", "The session's id, its `sid`.")]
    return {
        user: {
            "parameters": user_in_path,
            "get": _operation(
                "listSessions",
                "A page of a user's sessions, as the provider reports them now.",
                [_ISSUER, _query("page", "`next` of the previous page.")],
                {200: SessionsResponse},
                _PROVIDER,
            ),
            "delete": _operation(
                "endSessions",
                "End all sessions of a user, or all but one, and follow each termination.",
                [
                    _ISSUER,
                    _query("except", "The session to keep. Unknown: 409, and none is ended."),
                    *_ENDING,
                ],
                {200: TerminationsResponse, 202: TerminationsResponse},
                [*_PROVIDER, 409],
            ),
        },
        user + "/state": {
            "parameters": user_in_path,
            "get": _operation(
                "readEndingOfUser",
                "The progress of the newest termination of all sessions of a user.",
                [_ISSUER],
                {200: TerminationModel},
                [404, 503],
            ),
        },
        session: {
            "parameters": session_in_path,
            "get": _operation(
                "readSession",
                "One session: as the provider reports it, and its state in each app.",
                [_ISSUER, _USER],
                {200: SessionResponse},
                _PROVIDER,
            ),
            "delete": _operation(
                "endSession",
                "End a session and follow its termination. 200: it had ended before.",
                [_ISSUER, _USER, *_ENDING],
                {200: TerminationModel, 202: TerminationModel},
                [*_PROVIDER, 409],
            ),
        },
        session + "/state": {
            "parameters": session_in_path,
            "get": _operation(
                "readEnding",
                "The progress of a termination: asked, gone, received, written, proven.",
                [_ISSUER],
                {200: TerminationModel},
                [404, 503],
            ),
        },
        "/api/revocations": {
            "get": _operation(
                "readRevocations",
                "The history of a session, a user, or an issuer: dead or alive, since when, by"
                " which token, and which apps have acted.",
                [
                    _query("issuer", "Required if there are several."),
                    _query("sid", "The session."),
                    _query("sub", "The user."),
                    _query(
                        "login_at", f"`iat` of the login's ID token: {TIME_FORMS}.", pattern=_TIME
                    ),
                    _query("app", "Only this app."),
                ],
                {200: SessionHistory},
                [404, 503],
            ),
            "post": _operation(
                "writeRevocation",
                "End a session, a user's sessions, or all of an issuer in an app, up to now,"
                " without the provider.",
                [],
                {201: RevocationResponse, 503: NotWrittenResponse},
                [404, 413, 415, 422],
                body=NewRevocation,
            ),
        },
        "/api/keys/fetch": {
            "post": _operation(
                "fetchKeys",
                "Fetch an issuer's keys now, here and in every other receiver on this Redis.",
                [],
                {200: KeysFetchedResponse},
                [404, 413, 415, 422],
                body=NewKeyFetch,
            )
        },
        "/api/reload": {
            "post": _operation(
                "reload",
                "Read the settings of the tenants again, in this receiver, as SIGHUP does.",
                [],
                {200: ReloadedResponse, 422: ReloadedResponse},
            )
        },
        "/api/issuers": {
            "get": _operation("listIssuers", "The issuers.", [], {200: IssuersResponse})
        },
        "/api/apps": {
            "get": _operation("listApps", "The relying apps at a glance.", [], {200: AppsResponse})
        },
        "/api/feed": {"get": _feed()},
        "/api/openapi.json": {"get": _operation("readDocument", "This document.", [], {200: None})},
    }


# Every operation may answer these: a malformed request, and the gate.
_ALWAYS = [400, 401, 403, 429]

# Failures of a provider's session API.
_PROVIDER = [404, 502, 503, 504]

_DESCRIPTIONS = {
    200: "OK.",
    201: "Written and durable.",
    202: "Begun; the termination is followed.",
    400: "The request is malformed.",
    401: "The admin token is missing or wrong.",
    403: "The Host is not one of this listener's, or the request comes from another origin.",
    404: "Not found.",
    409: "The session to keep is not one of the user's, or this one is refresh tokens only.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The body is well-formed and invalid.",
    429: "Too many wrong tokens.",
    502: "The provider's session API refuses or fails.",
    503: "A failure on our side, or a rate limit of the provider; see Retry-After.",
    504: "The provider's session API is too slow.",
}


def _operation(
    name: str,
    summary: str,
    parameters: list[Json],
    answers: dict[int, Any],
    errors: Iterable[int] = (),
    *,
    body: type | None = None,
) -> Json:
    operation: Json = {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            str(status): {
                "description": _DESCRIPTIONS[status],
                "content": _json(answers.get(status, ErrorResponse)),
            }
            for status in sorted({*answers, *errors, *_ALWAYS})
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    return operation


def _json(model: Any) -> Json:
    """Content of a model; None is any object."""
    schema = (
        {"type": "object"} if model is None else {"$ref": f"#/components/schemas/{model.__name__}"}
    )
    return {"application/json": {"schema": schema}}


def _feed() -> Json:
    operation = _operation(
        "listen",
        "Every logout and refusal as it happens, as server-sent events.",
        [
            _query("app", "Only this app."),
            _flag("refusals", "Include refusals; the default is true."),
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The id of the last received event: the feed continues there.",
                "schema": {"type": "string"},
            },
        ],
        {},
        [404, 503],
    )
    events = {"text/event-stream": {"schema": {"type": "string"}}}
    operation["responses"]["200"] = {"description": "The feed.", "content": events}
    return operation


def _in_path(name: str, text: str) -> Json:
    schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": _ID}
    text += " Percent-encoded as one segment of the path."
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


_ISSUER = _query(
    "issuer", "The issuer, by any of its names; required if several have a session API."
)
_USER = _query(
    "user", "Its user; saves providers that find sessions by user (Keycloak) a search.",
    maxLength=255, pattern=_ID,
)  # fmt: skip
_ENDING = [
    _flag("refresh_tokens", "End refresh tokens that would outlive the session."),
    _query("by", "Who requests it; for the audit.", allOf=[{"pattern": FREE_NAME}]),
    _query("reason", "Why; for the audit."),
]
