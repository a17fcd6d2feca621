"""What the gateway relies on in httptools, and in llhttp below it: the newest release has to do the same."""

from __future__ import annotations

import httptools
import pytest

pytestmark = pytest.mark.compat

HEAD = b"POST /a%2Fb?q=1 HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Heard:
    """Notes down what the parser calls."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.keeps_alive: bool | None = None
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.events.append("begin")

    def on_url(self, url: bytes) -> None:
        self.events.append(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.events.append((name, value))

    def on_headers_complete(self) -> None:
        self.events.append("head")
        self.keeps_alive = self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.events.append(body)

    def on_message_complete(self) -> None:
        self.events.append("end")


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_a_request_is_told_in_order_and_its_target_as_it_was_sent(heard: Heard) -> None:
    heard.parser.feed_data(HEAD + b"Content-Length: 3\r\n\r\nabc")
    assert heard.events == ["begin", b"/a%2Fb?q=1", (b"Host", b"x"), (b"Content-Length", b"3"), "head", b"abc", "end"]
    assert (heard.parser.get_method(), heard.parser.get_http_version()) == (b"POST", "1.1")
    assert heard.keeps_alive
    assert not heard.parser.should_upgrade()


def test_an_offer_to_upgrade_stops_the_parser_behind_the_head_and_says_where(heard: Heard) -> None:
    data = HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"
    with pytest.raises(httptools.HttpParserUpgrade) as stopped:
        heard.parser.feed_data(data)
    assert data[stopped.value.args[0] :] == b"abc"
    assert heard.parser.should_upgrade()
    assert heard.events[-2:] == ["head", "end"]
    assert (heard.parser.get_method(), heard.parser.get_http_version()) == (b"POST", "1.1")


def test_trailers_are_told_between_the_last_piece_of_the_body_and_the_end(heard: Heard) -> None:
    heard.parser.feed_data(CHUNKED + b"3;ext=1\r\nabc\r\n0\r\nX: y\r\n\r\n")
    assert heard.events[-4:] == ["head", b"abc", (b"X", b"y"), "end"]


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
        HEAD + b"Content-Length: 3, 3\r\n\r\n",
        HEAD + b"Content-Length: +3\r\n\r\n",
        HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"X : y\r\n\r\n",
        HEAD + b"X: y\r\n z\r\n\r\n",
        HEAD + b"X: a\x00b\r\n\r\n",
        HEAD + b": y\r\n\r\n",
        CHUNKED + b"0x3\r\nabc\r\n",
        CHUNKED + b"3\r\nabcd\r\n",
        CHUNKED + b"0\r\nContent-Length: 3\r\n\r\n",
        CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\nHost: x\n\n",
        b"POST /a b HTTP/1.1\r\n\r\n",
        b"POST /\xc3\xa9 HTTP/1.1\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        HEAD + b"Connection: close\r\n\r\nPOST / HTTP/1.1\r\n\r\n",
    ],
    ids=lambda data: repr(data[-45:]),
)
def test_what_two_readers_could_read_differently_is_an_error(heard: Heard, data: bytes) -> None:
    with pytest.raises(httptools.HttpParserError):
        heard.parser.feed_data(data)


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_the_parser_knows_whether_the_connection_goes_on(heard: Heard, head: bytes, kept: bool) -> None:
    heard.parser.feed_data(head)
    assert heard.keeps_alive is kept


def test_a_request_may_come_byte_by_byte(heard: Heard) -> None:
    for byte in HEAD + b"Content-Length: 2\r\n\r\nab":
        heard.parser.feed_data(bytes([byte]))
    target = b"".join(
        event for event in heard.events[1 : heard.events.index((b"Host", b"x"))] if isinstance(event, bytes)
    )
    assert target == b"/a%2Fb?q=1", "in as many pieces as it came"
    assert heard.events[-5:] == [(b"Content-Length", b"2"), "head", b"a", b"b", "end"]
