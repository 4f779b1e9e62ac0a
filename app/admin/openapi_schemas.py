"""The shapes of the admin API's answers, for OpenAPI. Times are epoch seconds; null is unknown."""

from typing import Any

from app.history import Conclusion

Json = dict[str, Any]


def _object(required: Json, optional: Json | None = None, **members: Any) -> Json:
    """An object; later releases may add members."""
    properties = required | (optional or {})
    return {"type": "object", "required": list(required), "properties": properties} | members


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(of: Json) -> Json:
    return {"type": "array", "items": of}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": "number"}
_WHOLE: Json = {"type": "integer"}
_FLAG: Json = {"type": "boolean"}
_TEXTS = _list(_TEXT)

_DEVICE = _object({"user_agent": _or_null(_TEXT), "ip": _or_null(_TEXT)})

_PROOF = _object(
    {
        "standing": {
            "enum": ["torn_down", "seen", "asks", "waiting", "failed", "silent", "nobody"]
        },
        "seen": _WHOLE,
        "readers": _WHOLE,
        "seconds": _or_null(_NUMBER),
    }
)

_EVENT = _object(
    {
        "id": _or_null(_TEXT),
        "v": _WHOLE,
        "kind": {"enum": ["session", "user", "all"]},
        "iss": _TEXT,
        "cutoff": _WHOLE,
        "app": _TEXT,
        "source": _TEXT,
        "received_at": _NUMBER,
    },
    {"sid": _TEXT, "sub": _TEXT, "jti": _TEXT, "client_ids": _TEXTS},
)

_TOLD = _object(
    {
        "app": _TEXT,
        "id": _TEXT,
        "event": _or_null(_ref("Event")),
        "covers": _FLAG,
        "proof": _or_null(_ref("Proof")),
        "dead_letters": _list({"type": "object"}),
    }
)

SCHEMAS: dict[str, Json] = {
    "Error": _object({"error": _TEXT, "error_description": _TEXT}),
    "Event": _EVENT,
    "Proof": _PROOF,
    "Told": _TOLD,
    "Session": _object(
        {
            "id": _TEXT,
            "issuer": _TEXT,
            "user": _TEXT,
            "state": {"enum": ["active", "ended", "idle", "expired"]},
            "ends_at": _or_null(_NUMBER),
            "created_at": _or_null(_NUMBER),
            "authenticated_at": _or_null(_NUMBER),
            "last_seen_at": _or_null(_NUMBER),
            "idle_expires_at": _or_null(_NUMBER),
            "expires_at": _or_null(_NUMBER),
            "active": _FLAG,
            "persistent": _or_null(_FLAG),
            "offline": _FLAG,
            "first_device": _DEVICE,
            "last_device": _DEVICE,
            "methods": _TEXTS,
            "clients": _TEXTS,
        }
    ),
    "Sessions": _object({"sessions": _list(_ref("Session")), "next": _or_null(_TEXT)}),
    "AppEnding": _object(
        {"app": _TEXT, "state": {"enum": ["waiting", "written"]}, "proven": _FLAG},
        {
            "event": _TEXT,
            "source": _TEXT,
            "cutoff": _WHOLE,
            "received_at": _NUMBER,
            "proof": _or_null(_ref("Proof")),
            "dead_letters": _list({"type": "object"}),
        },
    ),
    "Ending": _object(
        {
            "issuer": _TEXT,
            "session": _or_null(_TEXT),
            "user": _TEXT,
            "provider": _TEXT,
            "state": {
                "enum": [
                    "begun",
                    "asked",
                    "gone",
                    "received",
                    "written",
                    "confirmed",
                    "proven",
                    "unconfirmed",
                ]
            },
            "over": _FLAG,
            "refresh_tokens": _FLAG,
            "began_at": _NUMBER,
            "asked_at": _or_null(_NUMBER),
            "gone_at": _or_null(_NUMBER),
            "received_at": _or_null(_NUMBER),
            "written_at": _or_null(_NUMBER),
            "over_at": _or_null(_NUMBER),
            "trouble": _or_null(
                _object({"what": _TEXT, "detail": _TEXT, "at": _NUMBER, "tries": _WHOLE})
            ),
            "explanation": _or_null(_TEXT),
            "apps": _list(_ref("AppEnding")),
        },
        description="`session` null: all sessions of the user, ended with one call.",
    ),
    "Endings": _object(
        {"endings": _list(_ref("Ending")), "of_user": _or_null(_ref("Ending")), "more": _FLAG},
        description="`of_user`: of all sessions, where they end with one call of the provider's."
        " `more`: there are further sessions; ask again.",
    ),
    "Story": _object(
        {
            "app": _TEXT,
            "state": {"enum": ["alive", "revoked", "expired", "unknown"]},
            "max_session_age": _or_null(_WHOLE),
            "markers": _list({"type": "object"}),
            "cutoff": _or_null(_WHOLE),
            "cause": _or_null(_ref("Told")),
            "events": _list(_ref("Told")),
            "search": _or_null({"type": "object"}),
            "lost": _FLAG,
            "fault": _or_null(_TEXT),
        }
    ),
    "Stories": _object(
        {
            "question": {"type": "object"},
            "conclusion": {"enum": [one.value for one in Conclusion]},
            "apps": _list(_ref("Story")),
            "refusals": _list({"type": "object"}),
            "refusals_read": _FLAG,
            "elsewhere": _list(_TEXT),
        },
        description="`conclusion` is the worst of all that is known. `refusals`: tokens about it"
        " that were refused or wait for keys, newest first, where no end of it is newer."
        " `elsewhere`: other issuers that know the id, where this one does not.",
    ),
    "SessionAndApps": _object(
        {
            "session": _or_null(_ref("Session")),
            "apps": _list(_ref("Story")),
            "ending": _or_null(_ref("Ending")),
        }
    ),
    "Written": _object(
        {
            "act": _TEXT,
            "source": _TEXT,
            "by": _TEXT,
            "reason": _TEXT,
            "kind": {"enum": ["session", "user", "all"]},
            "iss": _TEXT,
            "sid": _or_null(_TEXT),
            "sub": _or_null(_TEXT),
            "cutoff": _WHOLE,
            "apps": _list(
                _object(
                    {"app": _TEXT, "markers": _TEXTS},
                    {"written": {"enum": ["accepted", "journaled", "repeated"]}, "error": _TEXT},
                )
            ),
        }
    ),
    "NotWritten": {
        "allOf": [_ref("Error"), _object({}, {"apps": _list({"type": "object"})})],
        "description": "With what became of each app; one that was written stays so.",
    },
    "Issuers": _object(
        {
            "issuers": _list(
                _object(
                    {
                        "issuer": _TEXT,
                        "aliases": _TEXTS,
                        "algorithms": _TEXTS,
                        "clients": _list(
                            _object({"client_id": _TEXT, "app": _TEXT, "max_session_age": _NUMBER})
                        ),
                        "sessions": _or_null(
                            _object({"kind": _TEXT, "sends_logout_tokens": _FLAG})
                        ),
                        "keys": _or_null({"type": "object"}),
                    }
                )
            )
        }
    ),
    "Apps": _object(
        {
            "apps": _list(
                _object(
                    {
                        "app": _TEXT,
                        "max_session_age": _or_null(_WHOLE),
                        "events": _WHOLE,
                        "last_event": _or_null(_ref("Told")),
                        "readers": {"type": "array"},
                        "silent": _WHOLE,
                        "asked_at": _or_null(_NUMBER),
                        "reported": _FLAG,
                        "without_sid": _TEXTS,
                        "behind": _or_null(_WHOLE),
                        "groups": _list({"type": "object"}),
                        "receipts": _WHOLE,
                        "teardown_median": _or_null(_NUMBER),
                        "teardown_slowest": _or_null(_NUMBER),
                        "dead_letters": _WHOLE,
                        "last_dead_letter": _or_null(_NUMBER),
                        "beyond": _or_null(_TEXT),
                        "fault": _or_null(_TEXT),
                    }
                )
            )
        }
    ),
    "Document": {"type": "object"},
}
