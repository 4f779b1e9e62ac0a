"""The page after the sign-in is always one of the console's."""

import pytest

from app.console.sign_in.next_page import HOME, MAX_LENGTH, local_page


@pytest.mark.parametrize(
    "page",
    [
        "/console",
        "/console/health",
        "/console/story?iss=https%3A%2F%2Fop.example%2F&sid=a%20b&login_at=17",
        "/console/refusals?reason=signature",
        "/console/sessions/ending?issuer=https://op.example/&session=a",
        "/console?text=//evil.example",
        "/console/sign-in-help",
    ],
)
def test_a_page_of_the_console_is_taken_as_it_is(page: str) -> None:
    assert local_page(page) == page


@pytest.mark.parametrize(
    "value",
    [
        None, "", "/", "console", "https://evil.example/console", "//evil.example/console",
        "///evil.example", "/\\evil.example", "\\\\evil.example", "/console\\..\\..\\evil",
        "/console/../metrics", "/console/%2e%2e/metrics", "/console/%2f%2fevil.example",
        "/console//evil.example", "/console@evil.example", "/console.evil.example",
        "/consoles", "/api/apps", "javascript:alert(1)", "data:text/html,x", " /console",
        "/console\n", "/console\r\nSet-Cookie: a=b", "/console?a=\x00", "/console#//evil",
        "/console/\u202e", "/console?\u202e", "/console/sign-in", "/console/sign-in?next=/console",
        "/console/sign-out", "/console/callback?code=x", "/console/static/console.css",
        "/console/presence", "/console?" + "x" * MAX_LENGTH,
    ],
)  # fmt: skip
def test_anything_else_leads_to_the_first_page(value: str | None) -> None:
    assert local_page(value) == HOME
