"""The OpenAPI document says what the API does: every route is in it, and what it allows is tried.

schemathesis sends what the document allows, and what it does not, and holds each answer against it:
its status, its media type, its shape, and that broken requests are refused.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from starlette.routing import Route

from app.admin.feed import FeedRoutes
from app.admin.key_fetches import KeyFetchRoutes
from app.admin.openapi import document
from app.admin.overview import OverviewRoutes
from app.admin.reloads import ReloadRoutes
from app.admin.revocations import RevocationRoutes
from app.admin.sessions import OperatorSessionRoutes
from tests.admin.api_fixture import ALICE, TOKEN, AdminClient

_KINDS = (
    FeedRoutes, KeyFetchRoutes, OverviewRoutes, ReloadRoutes, RevocationRoutes,
    OperatorSessionRoutes,
)  # fmt: skip


def routes_of_the_code() -> set[tuple[str, str]]:
    routes: list[Route] = []
    for kind in _KINDS:
        routes += kind.__new__(kind).routes
    return {
        (route.path, method.lower())
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
    }


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    written = {
        (path, method)
        for path, item in document()["paths"].items()
        for method in item.keys() - {"parameters"}
    }
    assert written - {("/api/openapi.json", "get")} == routes_of_the_code()


MEMBERS = {
    "AppHistory": "app state max_session_age markers cutoff cause events search lost fault",
    "AppOverview": "app max_session_age events last_event readers silent asked_at reported"
    " without_sid behind groups receipts teardown_median teardown_slowest dead_letters"
    " last_dead_letter beyond fault",
    "AppsResponse": "apps",
    "ClientModel": "client_id app max_session_age",
    "DeadLetter": "id event listener tries error",
    "DeliveredEvent": "app id event covers proof dead_letters",
    "Device": "user_agent ip",
    "ErrorResponse": "error error_description",
    "EventMembers": "id v kind iss cutoff app source received_at sid sub jti client_ids"
    " revoke_offline_access",
    "FailedApp": "app markers error why",
    "Group": "name consumers pending lag last_delivered",
    "InformedApp": "app state event source cutoff received_at proof dead_letters proven",
    "IssuerModel": "issuer aliases algorithms clients sessions keys",
    "IssuersResponse": "issuers",
    "KeysFetchedResponse": "issuer fetched error keys skipped_keys others_asked",
    "ReloadedResponse": "outcome added changed removed refused faults needs_restart",
    "Marker": "kind key cutoff expires_in",
    "NotWrittenResponse": "error error_description act source by reason kind iss sid sub cutoff"
    " apps",
    "Problem": "what detail at tries",
    "ProofMembers": "standing seen readers seconds",
    "RefusalEntry": "id at reason rule iss aud alg typ kid iat exp jti_hash sid_hash sub_hash"
    " request_id verified",
    "RevocationQuery": "iss sid sub login_at auth_time",
    "RevocationResponse": "act source by reason kind iss sid sub cutoff apps",
    "Search": "entries ended oldest",
    "SessionApiModel": "kind sends_logout_tokens",
    "SessionHistory": "question conclusion apps refusals refusals_read elsewhere",
    "SessionModel": "id issuer user state ends_at created_at authenticated_at last_seen_at"
    " idle_expires_at expires_at active persistent offline first_device last_device methods"
    " clients",
    "SessionResponse": "session apps ending",
    "SessionsResponse": "sessions next",
    "TerminationModel": "issuer session user provider state over refresh_tokens began_at asked_at"
    " gone_at received_at written_at over_at trouble explanation apps",
    "TerminationsResponse": "endings of_user more",
    "WaitingApp": "app state proven",
    "WrittenApp": "app markers written",
}
OPTIONAL = {"sid", "sub", "jti", "client_ids", "revoke_offline_access"}


def test_the_answers_have_the_members_that_clients_rely_on() -> None:
    """Renaming an attribute of a model or a record must not rename a member of the JSON."""
    schemas = {
        name: schema
        for name, schema in document()["components"]["schemas"].items()
        if "properties" in schema and name not in {"NewRevocation", "NewKeyFetch"}
    }
    assert {name: " ".join(schema["properties"]) for name, schema in schemas.items()} == MEMBERS
    for name, schema in schemas.items():
        optional = OPTIONAL if name == "EventMembers" else set()
        assert set(schema["required"]) == schema["properties"].keys() - optional


def test_every_operation_says_what_the_gate_may_answer() -> None:
    for item in document()["paths"].values():
        for method in item.keys() - {"parameters"}:
            assert {"401", "403", "429"} <= item[method]["responses"].keys()


@pytest.mark.slow
def test_whatever_the_document_allows_is_answered_as_it_says(
    admin: AdminClient, tmp_path: Path
) -> None:
    for _ in range(3):
        admin.tenant.add(ALICE)
    # Beyond ASCII, what a character may be follows Unicode's tables, which no pattern can say.
    (tmp_path / "schemathesis.toml").write_text('[generation]\ncodec = "ascii"\n')
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"), "run",
            admin.base + "/openapi.json",
            "--header", f"Authorization: Bearer {TOKEN}",
            "--exclude-path", "/api/feed",
            "--exclude-checks", "ignored_auth",  # it shows wrong tokens, which are slowed down
            "--phases", "examples,coverage,fuzzing",
            "--max-examples", "10", "--seed", "1", "--suppress-health-check", "all",
            "--no-color", "--request-timeout", "10",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Internal" not in admin.receiver.log
