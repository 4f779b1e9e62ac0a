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
from app.admin.openapi import document
from app.admin.overview import OverviewRoutes
from app.admin.revocations import RevocationRoutes
from app.admin.sessions import OperatorSessionRoutes
from tests.admin.api_fixture import ALICE, TOKEN, ApiScene


def routes_of_the_code() -> set[tuple[str, str]]:
    found: list[Route] = []
    for kind in (FeedRoutes, OverviewRoutes, RevocationRoutes, OperatorSessionRoutes):
        found += kind.__new__(kind).routes
    return {
        (route.path, method.lower())
        for route in found
        for method in (route.methods or set()) - {"HEAD"}
    }


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    written = {
        (path, method)
        for path, item in document()["paths"].items()
        for method in item.keys() - {"parameters"}
    }
    assert written - {("/api/openapi.json", "get")} == routes_of_the_code()


def test_every_operation_says_what_the_gate_may_answer() -> None:
    for item in document()["paths"].values():
        for method in item.keys() - {"parameters"}:
            assert {"401", "403", "429"} <= item[method]["responses"].keys()


@pytest.mark.slow
def test_whatever_the_document_allows_is_answered_as_it_says(
    scene: ApiScene, tmp_path: Path
) -> None:
    for _ in range(3):
        scene.tenant.add(ALICE)
    # Beyond ASCII, what a character may be follows Unicode's tables, which no pattern can say.
    (tmp_path / "schemathesis.toml").write_text('[generation]\ncodec = "ascii"\n')
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"), "run",
            scene.base + "/openapi.json",
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
    assert "Internal" not in scene.receiver.log
