"""The answers of the admin API, from which its OpenAPI document is generated.

Times are epoch seconds; null is unknown.
"""

from typing import Any

from pydantic import BaseModel

from app.history import AppHistory, AppOverview
from app.publish.writer import Written
from app.web.errors import ErrorResponse
from app.web.session_models import SessionModel, TerminationModel
from backchannel_logout import EventKind


class SessionsResponse(BaseModel):
    """A page of a user's sessions. ``next`` is the ``page`` of the following one."""

    sessions: list[SessionModel]
    next: str | None


class SessionResponse(BaseModel):
    """One session at the provider and in each app, and the progress of its termination."""

    session: SessionModel | None
    apps: list[AppHistory]
    ending: TerminationModel | None


class TerminationsResponse(BaseModel):
    """``of_user``: of all sessions, if the provider ends them with one call. ``more``: there are
    further sessions; repeat the request."""

    endings: list[TerminationModel]
    of_user: TerminationModel | None
    more: bool


class WrittenApp(BaseModel):
    """An app that the revocation was written for."""

    app: str
    markers: list[str]
    written: Written


class FailedApp(BaseModel):
    """An app that the revocation could not be written for now."""

    app: str
    markers: list[str]
    error: str
    why: str


class RevocationResponse(BaseModel):
    """A revocation that was written for every app of ``apps``."""

    act: str
    source: str
    by: str
    reason: str
    kind: EventKind
    iss: str
    sid: str | None
    sub: str | None
    cutoff: int
    apps: list[WrittenApp | FailedApp]


class NotWrittenResponse(RevocationResponse, ErrorResponse):
    """A revocation that failed for some apps. What was written for the others stays."""


class ClientModel(BaseModel, from_attributes=True):
    client_id: str
    app: str
    max_session_age: float


class SessionApiModel(BaseModel, from_attributes=True):
    kind: str
    sends_logout_tokens: bool


class IssuerModel(BaseModel):
    """An issuer of the settings. ``keys`` is its part of the answer of `/readyz`."""

    issuer: str
    aliases: list[str]
    algorithms: list[str]
    clients: list[ClientModel]
    sessions: SessionApiModel | None
    keys: dict[str, Any] | None


class IssuersResponse(BaseModel):
    issuers: list[IssuerModel]


class KeysFetchedResponse(BaseModel):
    """The result of a fetch in this receiver. ``keys`` are in use, also after a failed fetch.

    ``others_asked``: false if Redis did not take the request for the other receivers.
    """

    issuer: str
    fetched: bool
    error: str | None
    keys: int
    skipped_keys: int
    others_asked: bool


class ReloadedResponse(BaseModel):
    """What became of the tenants' files, by their names without ``.toml``.

    ``refused`` has the faults of each file that was refused: its tenant keeps its last good state.
    ``faults`` are those of the main file; then nothing was taken. ``needs_restart`` names settings
    of the main file that differ from those in service.
    """

    outcome: str
    added: list[str]
    changed: list[str]
    removed: list[str]
    refused: dict[str, list[str]]
    faults: list[str]
    needs_restart: list[str]


class AppsResponse(BaseModel):
    apps: list[AppOverview]
