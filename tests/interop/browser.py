"""A scripted browser: its own cookies, redirects, and the buttons of HTML forms."""

import ssl
from html.parser import HTMLParser
from typing import Any, Self

import httpx


def loopback_only() -> dict[str, Any]:
    """Options of an HTTP client for plain http on this machine.

    No proxy, and no certificates, which take longer to load than a whole sign-in.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return {"trust_env": False, "verify": tls, "timeout": 10}


class Browser:
    """One person's browser."""

    def __init__(self) -> None:
        self._http = httpx.Client(
            follow_redirects=True,
            event_hooks={"response": [self._trust_this_machine]},
            **loopback_only(),
        )

    def _trust_this_machine(self, _: httpx.Response) -> None:
        """Send Secure cookies too: browsers treat http on loopback as secure."""
        for cookie in self._http.cookies.jar:
            cookie.secure = False

    def open(self, url: str) -> httpx.Response:
        """The page after all redirects, of any status."""
        return self._http.get(url)

    def press(self, page: httpx.Response, label: str, **filled: str) -> httpx.Response:
        """Press the button with this label on a page, after filling in the form's fields."""
        forms = _Forms(page.text)
        assert label in forms.buttons, f"no button {label!r} on {page.url}:\n{page.text}"
        form, pressed = forms.buttons[label]
        assert filled.keys() <= form.fields.keys(), f"{page.url} asks for {list(form.fields)}"
        return self._http.post(page.url.join(form.action), data=form.fields | pressed | filled)

    def post_json(self, url: str, body: dict[str, Any]) -> httpx.Response:
        """Send a request as a script on a page of the same origin."""
        origin = str(httpx.URL(url).copy_with(path="", query=None)).rstrip("/")
        return self._http.post(url, json=body, headers={"Origin": origin})

    def cookie(self, name: str) -> str:
        """The value of a cookie. Raises ``KeyError``."""
        return self._http.cookies[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()


class _Form:
    def __init__(self, action: str) -> None:
        self.action = action
        self.fields: dict[str, str] = {}


class _Forms(HTMLParser):
    """A page's buttons by label: the form, and the fields that pressing adds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.buttons: dict[str, tuple[_Form, dict[str, str]]] = {}
        self._by_id: dict[str, _Form] = {}
        self._form: _Form | None = None
        self._button: dict[str, str] | None = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = _Form(attributes["action"])
            self._by_id[attributes.get("id", "")] = self._form
        elif tag == "input" and self._form and "name" in attributes:
            self._form.fields[attributes["name"]] = attributes.get("value", "")
        elif tag == "button":
            self._button = attributes

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "button":
            self._button = None

    def handle_data(self, data: str) -> None:
        if self._button is None or not (label := data.strip()):
            return
        # A button outside its form names it.
        form = self._by_id[self._button["form"]] if "form" in self._button else self._form
        name = self._button.get("name")
        if form is not None:
            self.buttons[label] = form, {name: self._button.get("value", "")} if name else {}
