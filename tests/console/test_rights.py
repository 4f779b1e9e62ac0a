"""The console with OpenID Connect, with its Redis rights of the contract."""

from pathlib import Path

import pytest

from backchannel_logout import AppKeys
from tests.console.oidc_browser import OIDC, OidcBrowser
from tests.support.providers.sign_in import SignInProvider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.rights import documented_rights

pytestmark = pytest.mark.slow

CLIENTS = '[{client_id = "console", app = "console"}, {client_id = "shop-web", app = "shop"}]'

PAGES = (
    "", "/story?sid=a&iss={iss}", "/search", "/refusals", "/explain", "/issuers", "/apps",
    "/sessions", "/health",
)  # fmt: skip


def test_every_page_is_there_and_a_logout_token_ends_the_session(tmp_path: Path) -> None:
    """The console asks about its sessions by the receiver's own user."""
    with (
        documented_rights(tmp_path, "acl", "console", console=True) as (url, look),
        SignInProvider() as op,
    ):
        settings = config(url, f'issuer = "{op.issuer}"', clients=CLIENTS)
        receiver = Receiver(tmp_path / "receiver", settings + OIDC.format(issuer=op.issuer)).start()
        try:
            browser = OidcBrowser(receiver)
            assert browser.sign_in().status_code == 200
            for page in PAGES:
                answer = browser.ask("GET", "/console" + page.format(iss=op.issuer))
                assert answer.status_code == 200, page
            assert browser.ask("GET", "/api/apps").status_code == 200
            readers = AppKeys("console").readers
            wait_for(lambda: look.hlen(readers), "the console's guard reports itself")
            assert receiver.post(op.token(aud="console", sid=op.sid)).status_code == 200
            wait_for(lambda: browser.ask("GET", "/console").status_code == 303, "it has ended")
        finally:
            receiver.stop()
