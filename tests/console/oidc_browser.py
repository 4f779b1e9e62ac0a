"""An HTTP client that signs in to the console with OpenID Connect."""

import html
import re

import httpx

from tests.support.receiver import Receiver

OIDC = """
[admin_oidc]
issuer = "{issuer}"
client_id = "console"
client_secret = "the console's secret: %"
required_group = "oncall"
"""


class OidcBrowser:
    """Cookies by hand: httpx takes no secure one over http."""

    def __init__(self, receiver: Receiver, http: httpx.Client | None = None) -> None:
        self.receiver = receiver
        self._http = http
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"cookie": cookie, "accept": "text/html"}
        answer = (self._http or self.receiver.http).request(
            method,
            self.receiver.admin_url + path,
            headers=headers,
            **options,  # type: ignore[arg-type]
        )
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
            if "Max-Age=0" in line:
                del self.cookies[name]
        return answer

    def leave(self, **form: str) -> str:
        """Begin to sign in: the provider's address that the page leads to."""
        return led_to(self.ask("POST", "/console/sign-in/oidc", data=form))

    def back_from(self, url: str) -> str:
        """The path to which the provider sends the browser back."""
        back = self.receiver.http.get(url).headers["location"]
        return str(back).removeprefix(self.receiver.admin_url)

    def sign_in(self, **form: str) -> httpx.Response:
        """Go to the provider and come back; the answer to that."""
        return self.ask("GET", self.back_from(self.leave(**form)))


def led_to(page: httpx.Response) -> str:
    """Where a page without further content leads at once."""
    (url,) = re.findall(r'http-equiv="refresh" content="0;url=([^"]*)"', page.text)
    return html.unescape(str(url))
