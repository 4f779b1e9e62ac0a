"""`POST /backchannel-logout`: a provider's logout token in, 200, 400 or 503 out.

Back-Channel Logout 1.0, sections 2.5 (request), 2.7 (what the relying party does) and 2.8
(response). Owns the request's time; knows neither keys nor Redis.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from app.errors import DependencyUnavailable, Outage, Reason, TokenRefused, to_http
from app.load import BodyBytes, Places
from app.publish.writer import Writer, Written
from app.revocation import Once, Revocation, revoke
from app.settings import IssuerSettings
from app.tokens import logout_token, signed_jwt
from app.tokens.logout_token import LogoutToken
from app.tokens.provider_keys import LONGEST_WAIT, ProviderKeys
from app.tokens.signed_jwt import UnverifiedJwt
from backchannel_logout import EventKind

log = logging.getLogger(__name__)

SOURCE = "backchannel-logout"

# The least patient provider waits 2.5 s (oidc-provider), and most never send again: an
# answer after that is a logout that the provider believes lost.
REQUEST_SECONDS = 1.8

# Real bodies have 450 to 850 bytes; a token with session metadata a few KiB.
LARGEST_BODY = 64 * 1024

# 64 KiB can hold 65,536 empty fields; providers send one or two.
_MOST_FIELDS = 1000

_APP = attrgetter("app")

_GOOD = frozenset(Written)

# It says nothing of the request, and nothing changes it.
_OK = Response(status_code=200)


@dataclass(frozen=True, slots=True)
class Provider:
    """A configured issuer and its keys."""

    issuer: IssuerSettings
    keys: ProviderKeys


Park = Callable[[bytes, UnverifiedJwt, str, float], None]
"""Takes a token, what it holds, its issuer and its arrival (epoch seconds), and never fails."""


class BackchannelLogout:
    """The endpoint. ``providers`` is keyed by every name of each issuer.

    ``places`` bounds what is at work; ``park`` takes the tokens whose key can not be had now.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        writer: Writer,
        *,
        places: Places,
        park: Park,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._providers = providers
        self._issuers = {name: provider.issuer for name, provider in providers.items()}
        self._writer = writer
        self._places = places
        self._bodies = BodyBytes()
        self._park = park
        self._clock = clock

    async def answer(self, request: Request) -> Response:
        """Answer one POST within `REQUEST_SECONDS`, whatever hangs."""
        return await self._answer(self._read(request))

    async def answer_whole(self, media_type: str, body: bytes) -> Response:
        """`answer` to a POST whose body is here already."""
        return await self._answer(_read_whole(media_type, body))

    async def _answer(self, reading: Awaitable[bytes]) -> Response:
        story = _Story(time.perf_counter())
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._receive(reading, story)
        except TokenRefused as error:
            return self._fault(story, error)
        except DependencyUnavailable as error:
            return self._fault(story, error)
        except TimeoutError:
            return self._fault(story, DependencyUnavailable(Outage.DEADLINE))
        except ClientDisconnect:
            story.tell("disconnected")
            return Response(status_code=400)
        except Exception:
            # A fault of ours is never the provider's: 503, so that it may send again.
            log.exception("logout outcome=failed error=internal")
            return self._fault(story, DependencyUnavailable(Outage.INTERNAL))
        story.tell(story.outcome)
        return _OK

    async def _receive(self, reading: Awaitable[bytes], story: "_Story") -> None:
        arrived_at = self._clock()
        now = asyncio.get_running_loop().time()
        until, keys_until = now + REQUEST_SECONDS, now + LONGEST_WAIT
        unverified_token = await reading
        jwt = signed_jwt.parse(unverified_token)
        issuer = signed_jwt.issuer_of(jwt, self._issuers)
        story.issuer = issuer.issuer
        signed_jwt.check_header(jwt, issuer, logout_token.TYPS)
        keys = self._providers[issuer.issuer].keys
        with self._places.taken(issuer.issuer):
            try:
                signed = await signed_jwt.verify(
                    jwt, issuer, keys, arrived_at=arrived_at, until=keys_until
                )
            except (DependencyUnavailable, asyncio.CancelledError):
                # Cancelled: the deadline has come before the keys.
                self._park(unverified_token, jwt, issuer.issuer, arrived_at)
                raise
            # As of its arrival: a clock that is set right meanwhile must not part the two.
            token = logout_token.judge(signed, now=arrived_at)
            story.client_ids = token.client_ids
            revocations = revocations_for(token, received_at=arrived_at)
            story.outcome = await self._writer.write(revocations, until=until)

    async def _read(self, request: Request) -> bytes:
        with self._bodies.reading() as grown_to:
            return await read_form(request, grown_to)

    @staticmethod
    def _fault(story: "_Story", error: TokenRefused | DependencyUnavailable) -> Response:
        status, body, headers = to_http(error)
        outcome = "refused" if isinstance(error, TokenRefused) else "unavailable"
        story.tell(outcome, reason=str(error))
        return JSONResponse(body, status_code=status, headers=headers)


async def read_form(request: Request, grown_to: Callable[[int], None]) -> bytes:
    """The one ``logout_token`` of the form (section 2.5). Other fields are ignored.

    ``grown_to`` is told the bytes that are held so far, and may raise.
    """
    _check_media_type(request.headers.get("content-type", ""))
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise TokenRefused(Reason.BODY_TOO_LARGE)
        grown_to(len(body))
    return _token_in(body)


async def _read_whole(media_type: str, body: bytes) -> bytes:
    """`read_form` where nothing has to be waited for."""
    _check_media_type(media_type)
    if len(body) > LARGEST_BODY:
        raise TokenRefused(Reason.BODY_TOO_LARGE)
    return _token_in(body)


def _check_media_type(given: str) -> None:
    if given.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise TokenRefused(Reason.CONTENT_TYPE)


def _token_in(body: bytes | bytearray) -> bytes:
    try:
        # latin-1 gives every byte a character: what other fields hold must not matter.
        fields = parse_qsl(
            body.decode("latin-1"),
            keep_blank_values=True,
            encoding="latin-1",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise TokenRefused(Reason.FORM) from None
    tokens = [value for name, value in fields if name == "logout_token"]
    if len(tokens) > 1:
        raise TokenRefused(Reason.LOGOUT_TOKEN_REPEATED)
    if not tokens or not tokens[0]:
        raise TokenRefused(Reason.LOGOUT_TOKEN_MISSING)
    return tokens[0].encode("latin-1")


def revocations_for(token: LogoutToken, *, received_at: float) -> list[Revocation]:
    """What a token revokes: one revocation for each relying app that its ``aud`` names.

    ``sid`` ends that session only, also where ``sub`` stands beside it; widening it to the
    user would end all devices for one. A client may ask for that (``both_claims``) where its
    provider's ID tokens carry no ``sid``, so that nothing else could be matched.
    """
    issuer = token.issuer
    clients = [client for client in issuer.clients if client.client_id in token.client_ids]
    by_app = groupby(sorted(clients, key=_APP), key=_APP)
    once = Once(
        jti=token.jti,
        sid=token.sid,
        sub=token.sub,
        until=token.iat + issuer.max_token_age + issuer.leeway,
    )
    revocations = []
    for app, members in by_app:
        concerned = list(members)
        whole_user = token.sid is None or (
            token.sub is not None and concerned[0].both_claims == "user"
        )
        revocations.append(
            revoke(
                app=app,
                kind=EventKind.USER if whole_user else EventKind.SESSION,
                issuer_names=issuer.names,
                sid=token.sid,
                sub=token.sub,
                since=token.iat,
                source=SOURCE,
                received_at=received_at,
                max_session_age=concerned[0].max_session_age,
                leeway=issuer.leeway,
                client_ids=tuple(client.client_id for client in concerned),
                once=once,
                revoke_offline_access=token.revoke_offline_access,
            )
        )
    return revocations


class _Story:
    """The one log line of a token: what happened to it, never what was in it."""

    def __init__(self, began: float) -> None:
        self._began = began
        self.issuer = "-"
        self.client_ids: tuple[str, ...] = ()
        self.outcome = "-"

    def tell(self, outcome: str, reason: str = "-") -> None:
        level = logging.INFO if outcome in _GOOD else logging.WARNING
        log.log(
            level,
            "logout outcome=%s reason=%s issuer=%s clients=%s ms=%.1f",
            outcome,
            reason,
            self.issuer,
            ",".join(self.client_ids) or "-",
            (time.perf_counter() - self._began) * 1000,
        )
