"""Supply chain: everything that is shipped is pinned, licensed and audited."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LOCKS = sorted(ROOT.glob("requirements/*.lock"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def pinned(lock: Path) -> list[str]:
    return re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==", lock.read_text(), re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_dependency_has_a_hash_and_no_url(lock):
    text = lock.read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) == len(pinned(lock))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


def test_the_licence_of_every_dependency_in_the_image_is_listed():
    listed = (ROOT / "docs/licences.md").read_text().lower()
    for line in (ROOT / "requirements/runtime.lock").read_text().splitlines():
        # Lines with a marker are for other systems or older Pythons.
        if (name := re.match(r"([A-Za-z0-9_.-]+)==", line)) and ";" not in line:
            assert re.search(rf"\| {re.sub('[-_.]', '[-_.]', name[1].lower())} ", listed), name[1]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_few_rights_and_no_action_that_a_tag_can_change(workflow):
    content = yaml.safe_load(workflow.read_text())
    assert content["permissions"] == {"contents": "read"}
    for job in content["jobs"].values():
        assert "timeout-minutes" in job
        for step in job["steps"]:
            # A third-party action is named by its commit.
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step.get("uses", f"x@{'0' * 40}"))
            # Text that strangers control (a branch, a title) is never part of a script.
            assert "${{" not in step.get("run", "")


def test_only_the_signing_job_can_sign_and_it_runs_no_code_of_ours():
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    may_sign = {name for name, job in jobs.items() if "id-token" in job.get("permissions", {})}
    assert may_sign == {"sign"}
    commands = "\n".join(step["run"] for step in jobs["sign"]["steps"])
    assert not re.search(r"\b(make|pip|npm|apt-get|buildah|docker|git fetch)\b", commands)
    assert re.search(r"go install \S+/cosign@v\d+\.\d+\.\d+$", commands, re.MULTILINE)


def test_a_release_needs_tests_and_a_completed_audit():
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    assert set(jobs["image"]["needs"]) == {"checks", "supply"}
    assert "REQUIRE_AUDIT=1" in str(jobs["supply"]["steps"])
    for name in ("checks", "supply"):
        assert "secrets." not in str(jobs[name])


def test_a_release_is_signed_attested_and_named_by_its_digest():
    text = (ROOT / ".github/workflows/release.yml").read_text()
    for part in ('cosign sign --yes "$IMAGE@$DIGEST"', "cosign attest --yes --type slsaprovenance1",
                 "cosign attest --yes --type cyclonedx", "--digestfile"):  # fmt: skip
        assert part in text


def test_every_third_party_image_is_named_by_its_digest():
    dockerfiles = [ROOT / "Dockerfile", ROOT / "examples/Dockerfile"]
    files = [*dockerfiles, ROOT / "compose.yaml", *(ROOT / "k8s").rglob("*.yaml")]
    images = [
        (path.relative_to(ROOT), image)
        for path in files
        for image in re.findall(
            r"^(?:ARG BASE=|FROM |\s*image: (?:&\w+ )?)([\w./:@-]+)", path.read_text(), re.MULTILINE
        )
    ]
    ours = ("backchannel-logout-", "${BASE}")
    others = [(path, name) for path, name in images if not name.startswith(ours)]
    assert len(others) >= 5
    for path, name in others:
        assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", name), path


def test_an_audit_without_its_database_fails_a_release(tmp_path):
    """Without REQUIRE_AUDIT=1 it is only reported."""
    supply = tmp_path / ".cache/supply/bin"
    supply.mkdir(parents=True)
    (supply / "pip-audit").write_text("#!/bin/sh\necho unreachable >&2\nexit 1\n")
    (supply / "pip-audit").chmod(0o755)
    (tmp_path / ".cache/supply/.ready").touch()
    command = ["make", "-f", str(ROOT / "Makefile"), "-o", ".cache/supply/.ready", "audit"]

    def audit(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert audit().returncode == 0
    assert "nothing was checked" in audit().stdout
    required = audit("REQUIRE_AUDIT=1")
    assert required.returncode != 0
    assert "nothing was checked" in required.stdout
