"""The parts of HTTP that need no socket: targets, heads, responses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_gateway.http.head import find_fault, path_of, without_upgrade
from forebay_gateway.response import Response


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/v1/a", "/v1/a"),
        (b"/v1/a?b=/c", "/v1/a"),
        (b"/v1%2Fa", "/v1%2Fa"),
        (b"/v1/%zz", "/v1/%zz"),
        (b"//v1/a", "//v1/a"),
        (b"http://h/v1/a?b", "/v1/a"),
        (b"HTTPS://u:p@h:8/v1/a", "/v1/a"),
        (b"http://h", "/"),
        (b"http://h?x", "/"),
        (b"*", "*"),
        (b"h:80", None),
        (b"v1/a", None),
        (b"ftp://h/v1/a", None),
        (b"/v1/a#b", None),
        (b"http://", None),
        (b"http:///v1/a", None),
        (b"https://?/v1/a", None),
        (b"", None),
    ],
)
def test_the_path_of_a_target_is_what_was_sent(target: bytes, path: str | None) -> None:
    assert path_of(target) == path


@given(st.binary(max_size=60))
def test_reading_a_target_is_total(target: bytes) -> None:
    path = path_of(target)
    assert path is None or path == "*" or path.startswith("/")


@pytest.mark.parametrize("host", [b"h", b"h:80", b"[::1]:80", b"", b" h ", b"a_b.example", b"h%20i"])
def test_a_host_is_a_host(host: bytes) -> None:
    assert find_fault("1.1", "/", {b"host": host}, None) is None


@pytest.mark.parametrize("host", [b"a b", b"h/p", b"u@h", b"h\t:80", b"\xff", b'"h"'])
def test_what_is_no_host_is_refused(host: bytes) -> None:
    fault = find_fault("1.1", "/", {b"host": host}, None)
    assert fault is not None
    assert fault.status == 400


def test_a_head_without_its_offer_keeps_all_else() -> None:
    fields = {
        b"host": b"x",
        b"connection": b"Upgrade, close, HTTP2-Settings",
        b"upgrade": b"h2c",
        b"content-length": b"3",
    }
    head = without_upgrade(b"POST", b"/a?b", "1.1", fields, None)
    assert head == b"POST /a?b HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: close\r\n\r\n"


def test_a_response_is_written_in_one_piece() -> None:
    response = Response(200, b"a/b", b"body", [(b"x", b"y")])
    assert response.serialise(b"date: now\r\n", b"", with_body=True) == (
        b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: a/b\r\ncontent-length: 4\r\nx: y\r\n\r\nbody"
    )
    assert response.serialise(b"date: now\r\n", b"connection: close\r\n", with_body=False).endswith(
        b"content-length: 4\r\nx: y\r\nconnection: close\r\n\r\n"
    )
    assert Response(799, b"a/b", b"").serialise(b"date: now\r\n", b"", with_body=True).startswith(b"HTTP/1.1 799 \r\n")


@pytest.mark.parametrize("evil", [b"a\r\nb: c", b"a\nb", b"a\rb", b"\r\n\r\n"])
@pytest.mark.parametrize("place", ["type", "name", "value"])
def test_no_field_breaks_out_of_its_line(evil: bytes, place: str) -> None:
    response = {
        "type": Response(200, evil, b""),
        "name": Response(200, b"a/b", b"", [(evil, b"y")]),
        "value": Response(200, b"a/b", b"", [(b"x", evil)]),
    }[place]
    with pytest.raises(ValueError, match="line break"):
        response.serialise(b"date: now\r\n", b"", with_body=True)
