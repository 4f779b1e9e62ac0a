"""A headless browser: it stores cookies, follows links, and submits the real forms."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Self

import httpx


class NotOnThisPage(Exception):
    """The page lacks the expected link or form, which the message names."""


@dataclass(slots=True)
class Form:
    """A form: its target, its fields, its buttons (name, value)."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class Browser:
    """One browser of one person, with its user agent."""

    def __init__(self, user_agent: str) -> None:
        self.user_agent = user_agent
        self._page: httpx.Response | None = None
        self._http = httpx.AsyncClient(
            headers={"User-Agent": user_agent}, follow_redirects=True, trust_env=False, timeout=15
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def fetch(self, url: str) -> httpx.Response:
        """GETs a URL without leaving the current page, like a page's script."""
        return await self._http.get(url)

    async def open(self, url: str) -> None:
        """Opens a page and follows redirects. Raises `NotOnThisPage` for an error page."""
        self._show(await self._http.get(url))

    async def follow(self, text: str) -> None:
        """Follows the link with this text."""
        links = self._parsed().links
        if text not in links:
            raise NotOnThisPage(f"no link {text!r} on {self._where}: {sorted(links)}")
        await self.open(self._absolute(links[text]))

    async def press(self, name: str, value: str) -> None:
        """Submits the form of the button with this name and value."""
        for form in self._parsed().forms:
            if (name, value) in form.buttons:
                return await self._submit(form, {name: value})
        raise NotOnThisPage(f"no button {name}={value} on {self._where}")

    async def submit_with(self, name: str, value: str) -> None:
        """Submits the form that has a field with this name and value."""
        for form in self._parsed().forms:
            if form.fields.get(name) == value:
                return await self._submit(form, {})
        raise NotOnThisPage(f"no form with {name}={value} on {self._where}")

    async def _submit(self, form: Form, pressed: dict[str, str]) -> None:
        data = form.fields | pressed
        url = self._absolute(form.action)
        if form.method == "post":
            self._show(await self._http.post(url, data=data))
        else:
            self._show(await self._http.get(url, params=data))

    def _show(self, answer: httpx.Response) -> None:
        if answer.is_error:
            raise NotOnThisPage(f"{answer.url} answered {answer.status_code}: {answer.text}")
        self._page = answer

    def _absolute(self, reference: str) -> str:
        # An empty reference is the page itself, its query included.
        return str(self._where.join(reference)) if reference else str(self._where)

    @property
    def _where(self) -> httpx.URL:
        return self._page.url if self._page is not None else httpx.URL()

    def _parsed(self) -> "_Parser":
        parser = _Parser()
        parser.feed(self._page.text if self._page is not None else "")
        return parser


class _Parser(HTMLParser):
    """Links by their text, and forms."""

    def __init__(self) -> None:
        super().__init__()
        self.links: dict[str, str] = {}
        self.forms: list[Form] = []
        self._href: str | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "a":
            self._href, self._text = attributes.get("href"), ""
        elif tag == "form":
            method = attributes.get("method", "get").lower()
            self.forms.append(Form(attributes.get("action", ""), method))
        elif tag == "input" and self.forms:
            self.forms[-1].fields[attributes.get("name", "")] = attributes.get("value", "")
        elif tag == "button" and self.forms:
            self.forms[-1].buttons.append((attributes.get("name", ""), attributes.get("value", "")))

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._href is not None:
            self.links[self._text.strip()] = self._href
            self._href = None
