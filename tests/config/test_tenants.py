"""One file for each tenant: each is checked on its own, and a faulty one stops no other."""

from pathlib import Path

import pytest

from app.config.load import Loaded, SettingsFault, keep, load, load_all
from tests.support.receiver import run_app

MAIN = """
redis_url = "redis://127.0.0.1:1/0"
max_session_age = "8h"
"""


def tenant(name: str, *lines: str) -> str:
    """A file of one issuer with one client."""
    clients = f'clients = [{{client_id = "{name}"}}]'
    return "\n".join([*lines, "[[issuers]]", f'issuer = "https://{name}.example"', clients])


class Files:
    """A settings file with a directory of tenants."""

    def __init__(self, directory: Path, main: str = MAIN) -> None:
        self.directory = directory
        self.main = directory / "settings.toml"
        self.main.write_text(main + f'data_dir = "{directory / "data"}"\n')
        self.tenants = directory / "receiver.d"
        self.tenants.mkdir()

    def write(self, name: str, text: str) -> None:
        (self.tenants / f"{name}.toml").write_text(text)

    def load(self, running: Loaded | None = None) -> Loaded:
        return load_all(self.main, {}, running=None if running is None else running.tenants)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def issuers(loaded: Loaded) -> list[str]:
    return [issuer.issuer for issuer in loaded.settings.issuers]


def test_every_tenant_is_added_in_the_order_of_the_files(files: Files) -> None:
    files.write("b", tenant("b"))
    files.write("a", tenant("a"))
    files.write(".hidden", "not TOML [")
    (files.tenants / "notes.txt").write_text("not TOML [")
    loaded = files.load()
    assert (issuers(loaded), loaded.refused) == (["https://a.example", "https://b.example"], {})
    assert [it.issuer for it in load(files.main, {}).issuers] == issuers(loaded)


def test_options_of_the_main_file_and_of_the_tenants_file_are_handed_down(files: Files) -> None:
    files.write("a", tenant("a", 'max_session_age = "1h"', 'algorithms = ["ES256"]'))
    files.write("b", tenant("b"))
    a, b = files.load().settings.issuers
    assert (a.clients[0].max_session_age, b.clients[0].max_session_age) == (3600, 8 * 3600)
    assert a.algorithms == ("ES256",)
    assert b.algorithms != ("ES256",)


FAULTS = {
    "not TOML": ("[[issuers", "not TOML"),
    "no issuer": ("", "issuers: is required"),
    "a setting of the receiver": (
        tenant("x", 'listen = "0.0.0.0:80"'),
        "listen: does not belong to a tenant",
    ),
    "an unknown setting": (tenant("x", "nonsense = 1"), "nonsense: unknown setting"),
    "an unknown option": (
        tenant("x") + "\nnonsense = 1",
        "issuers[0].nonsense: unknown setting",
    ),
    "another tenant's issuer": (tenant("a"), "issuers[0].issuer: another issuer or alias"),
    "plain HTTP": (
        tenant("x").replace("https://", "http://"),
        "issuers[0].issuer: must be https",
    ),
}


@pytest.mark.parametrize(("text", "said"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_file_is_named_and_the_others_load(files: Files, text: str, said: str) -> None:
    files.write("a", tenant("a"))
    files.write("bad", text)
    files.write("z", tenant("z"))
    loaded = files.load()
    assert issuers(loaded) == ["https://a.example", "https://z.example"]
    assert list(loaded.refused) == ["bad"]
    assert any(said in fault for fault in loaded.refused["bad"]), loaded.refused


def test_a_fault_never_contains_a_value(files: Files) -> None:
    secret = "s3cret-value-of-a-tenant"
    files.write("bad", tenant("x", f'nonsense = "{secret}"', f'algorithms = "{secret}"'))
    assert secret not in str(files.load().refused)


@pytest.mark.parametrize("at", ["reload", "start"])
def test_a_tenant_whose_file_becomes_faulty_keeps_its_last_good_state(
    at: str, files: Files
) -> None:
    files.write("a", tenant("a"))
    files.write("b", tenant("b"))
    before = files.load()
    keep(before)
    files.write("a", "[[issuers")
    after = files.load(before if at == "reload" else None)
    assert issuers(after) == ["https://a.example", "https://b.example"]
    assert list(after.refused) == ["a"]
    files.write("a", tenant("a", 'max_session_age = "1h"'))
    mended = files.load(after)
    assert mended.refused == {}
    assert mended.settings.issuers[0].clients[0].max_session_age == 3600


def test_the_last_good_state_is_kept_for_the_owner_alone_and_goes_with_its_file(
    files: Files,
) -> None:
    files.write("a", tenant("a"))
    keep(files.load())
    kept = files.directory / "data/tenants/a.toml"
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == (tenant("a"), 0o600)
    (files.tenants / "a.toml").unlink()
    loaded = files.load()
    assert (issuers(loaded), loaded.refused) == ([], {})
    keep(loaded)
    assert not kept.exists()


def test_an_issuer_that_moves_to_an_earlier_file_is_refused_in_the_later_one(
    files: Files,
) -> None:
    files.write("b", tenant("shared"))
    before = files.load()
    files.write("a", tenant("shared"))
    after = files.load(before)
    assert issuers(after) == ["https://shared.example"]
    assert list(after.refused) == ["b"]
    assert list(after.tenants) == ["a"]


def test_the_main_file_wins_over_a_tenant_with_the_same_issuer(files: Files) -> None:
    files.main.write_text(files.main.read_text() + tenant("a"))
    files.write("a", tenant("a"))
    loaded = files.load()
    assert issuers(loaded) == ["https://a.example"]
    assert list(loaded.refused) == ["a"]


def test_a_fault_of_the_main_file_is_a_fault_of_all(files: Files) -> None:
    files.write("a", tenant("a"))
    files.main.write_text("listen = 5\n" + MAIN)
    with pytest.raises(SettingsFault, match="listen"):
        files.load()


def test_without_any_issuer_and_any_directory_issuers_are_required(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(MAIN)
    with pytest.raises(SettingsFault, match="issuers: is required"):
        load(tmp_path / "settings.toml", {})


def test_a_directory_that_does_not_exist_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(MAIN + 'tenants_dir = "nowhere"\n')
    with pytest.raises(SettingsFault, match="tenants_dir: cannot be read"):
        load(tmp_path / "settings.toml", {})


def test_kubernetes_links_are_followed(files: Files) -> None:
    """A ConfigMap's files are links into a hidden directory that changes as a whole."""
    data = files.tenants / "..2026_12_01"
    data.mkdir()
    (data / "a.toml").write_text(tenant("a"))
    (files.tenants / "..data").symlink_to(data.name)
    (files.tenants / "a.toml").symlink_to("..data/a.toml")
    assert issuers(files.load()) == ["https://a.example"]


def test_check_reads_another_directory_and_names_the_faulty_file(files: Files) -> None:
    other = files.directory / "candidate"
    other.mkdir()
    (other / "good.toml").write_text(tenant("good"))
    (other / "bad.toml").write_text("[[issuers")
    ended = run_app("check", "--config", "settings.toml", "--dir", "candidate", cwd=files.directory)
    assert ended.returncode == 1
    first, second = ended.stdout.splitlines()[:2]
    assert first.split()[:3] == ["WRONG", "tenant", "bad"]
    assert first.endswith("it is not served")
    assert second.split()[:3] == ["ok", "tenant", "good"]
