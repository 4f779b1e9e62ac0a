"""What is shipped is known: pinned, licensed, and from no address of somebody's machine."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LOCKS = sorted(ROOT.glob("requirements*.lock"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def pinned(lock: Path) -> list[str]:
    return re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==", lock.read_text(), re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_dependency_has_a_hash_and_none_an_address(lock):
    text = lock.read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) == len(pinned(lock))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


def test_the_licence_of_every_dependency_in_the_image_is_listed():
    listed = (ROOT / "docs/licences.md").read_text().lower()
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        # Some are only for other systems or older Pythons.
        if (found := re.match(r"([A-Za-z0-9_.-]+)==", line)) and ";" not in line:
            assert re.search(rf"\| {re.sub('[-_.]', '[-_.]', found[1].lower())} ", listed), found[1]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_few_rights_and_pinned_actions(workflow):
    told = yaml.safe_load(workflow.read_text())
    assert told["permissions"] == {"contents": "read"}
    for job in told["jobs"].values():
        assert "timeout-minutes" in job
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w.-]+/[\w.-]+@(v\d+|[0-9a-f]{40})", step["uses"])
            # What anybody can name (a branch, a title) never becomes a script's text.
            assert "${{" not in step.get("run", "")


def test_a_release_is_signed_attested_and_named_by_its_digest():
    text = (ROOT / ".github/workflows/release.yml").read_text()
    for part in ("cosign sign --yes", "cosign attest --yes", "attest-build-provenance",
                 "steps.build.outputs.digest"):  # fmt: skip
        assert part in text
