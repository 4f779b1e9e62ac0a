"""A request names one host (RFC 9112, 3.2), on every listener."""

import pytest

from tests.support.providers.provider import Provider
from tests.support.raw_http import RawConnection, logout_request
from tests.support.receiver import Receiver

HOSTS = {
    "none": (b"", b"400"),
    "one": (b"Host: localhost\r\n", b"200"),
    "two": (b"Host: localhost\r\nhOST: localhost\r\n", b"400"),
}


@pytest.mark.parametrize(("lines", "status"), HOSTS.values(), ids=HOSTS)
def test_a_request_without_a_host_or_with_two_is_refused(
    lines: bytes, status: bytes, receiver: Receiver, provider: Provider
) -> None:
    logout = logout_request(provider.token()).replace(b"Host: x\r\n", lines)
    probe = b"GET /livez HTTP/1.1\r\n" + lines + b"\r\n"
    for url, data in ((receiver.url, logout), (receiver.admin_url, probe)):
        with RawConnection(url) as connection:
            assert connection.send(data).answer()[9:12] == status
        with RawConnection(url) as connection:  # the first head is known by then
            assert connection.send(data, data, pause=0.05).answer()[9:12] == status


def test_http_1_0_has_no_host(receiver: Receiver, provider: Provider) -> None:
    data = logout_request(provider.token()).replace(b"Host: x\r\n", b"")
    with RawConnection(receiver.url) as connection:
        data = data.replace(b"HTTP/1.1", b"HTTP/1.0")
        assert connection.send(data).answers_until_end() == [b"200"]


@pytest.mark.parametrize("host", [b"", b"Host: x\r\n"])
def test_another_version_of_http_is_refused(
    host: bytes, receiver: Receiver, provider: Provider
) -> None:
    """HTTP/2 has another form, and needs no Host: no proxy sends this."""
    data = logout_request(provider.token()).replace(b"Host: x\r\n", host)
    with RawConnection(receiver.url) as connection:
        data = data.replace(b"HTTP/1.1", b"HTTP/2.0")
        assert connection.send(data).answers_until_end() == [b"400"]
