"""Hands options of the top level down to the issuers and clients that do not set their own.

An issuer's preset counts for less than both. ``model_fields_set`` of every table stays what the
operator has set.
"""

from typing import TypeVar

from app.config.base import Table
from app.config.issuers import ClientOptions, ClientSettings, IssuerOptions, IssuerSettings
from app.config.model import Settings
from app.config.presets import presets

_T = TypeVar("_T", bound=Table)


def resolved(settings: Settings) -> Settings:
    """The settings as they apply. A value with a fault is handed down as one with a fault."""
    issuers = settings.get("issuers")
    if issuers is None:
        return settings
    copy = settings.model_copy()
    vars(copy)["issuers"] = tuple(_issuer(issuer, settings) for issuer in issuers)
    return copy


def _issuer(issuer: IssuerSettings, settings: Settings) -> IssuerSettings:
    copy = _inheriting(issuer, IssuerOptions, settings)
    values = vars(copy)
    own = issuer.model_fields_set | settings.model_fields_set
    if (preset := issuer.get("preset")) is not None and "algorithms" not in own:
        values["algorithms"] = presets()[preset].algorithms
    if (sessions := issuer.get("sessions")) is not None and not sessions.sets_secret:
        values["sessions"] = sessions.model_copy()
        vars(values["sessions"])["secret"] = settings.get("sessions_secret")
    if (clients := issuer.get("clients")) is not None:
        values["clients"] = tuple(_client(client, settings) for client in clients)
    return copy


def _client(client: ClientSettings, settings: Settings) -> ClientSettings:
    copy = _inheriting(client, ClientOptions, settings)
    if "app" not in client.model_fields_set:
        _assign(copy, "app", client, "client_id")
    return copy


def _inheriting(own: _T, options: type[Table], settings: Settings) -> _T:
    copy = own.model_copy()
    for name in options.model_fields.keys() & settings.model_fields_set - own.model_fields_set:
        _assign(copy, name, settings, name)
    return copy


def _assign(table: Table, name: str, source: Table, source_name: str) -> None:
    if source_name in vars(source):
        vars(table)[name] = vars(source)[source_name]
    else:
        vars(table).pop(name, None)
