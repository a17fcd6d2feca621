"""Makes requests of the bytes that a client sends."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import httptools

from forebay_gateway import problems
from forebay_gateway.http.head import SINGLETONS, VERSIONS, find_fault, path_of, without_upgrade
from forebay_gateway.http.request import Channel, Request
from forebay_gateway.problems import HttpProblem

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
"""Bytes of a request's head, and of what a body may have between two pieces of content: trailers, chunk extensions."""

MAX_PIECE_BYTES = 16 * 1024
"""Bytes that are parsed at a time: httptools does not say where in them a request begins or ends, so the bounds on what
is no content are kept to this precision."""

_NO_VERSION = "0.0"
"""What llhttp says before it has read one."""

_TOKEN = rb"(?<![!#$%&'*+\-.^_`|~0-9A-Za-z])([!#$%&'*+\-.^_`|~0-9A-Za-z]+)"
_OF_OTHER_PROTOCOLS = "Invalid method for HTTP/x.x"
_LAST_TOKEN = re.compile(rb"(?:" + _TOKEN + rb")?\Z")
_METHOD = re.compile(rb"[\r\n]*" + _TOKEN + rb"(?: |\Z)")
_REQUEST_LINE = re.compile(_TOKEN + rb" [^ \r\n]+ HTTP/\d\.\d\r?\n")


class RequestParser:
    """Feeds llhttp, and hands each request over as soon as its head is complete.

    Args:
        channel: the way back to the client.
        max_body: bytes of a request's body.
        take: given each request; its body follows.

    Attributes:
        in_head: whether the beginning of a head is here, and not yet its end.
        receiving: the request whose body is on its way.
        heads: how many requests have begun.
        ended: whether nothing that comes from now on is a request.
    """

    def __init__(self, channel: Channel, max_body: int, take: Callable[[Request], None]) -> None:
        self._channel = channel
        self._max_body = max_body
        self._take = take
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._fields: dict[bytes, bytes] = {}
        self._repeated: bytes | None = None
        self._may_be_too_large = False
        self._head_bytes = 0  # of a head that comes in pieces, then of the trailers
        self._start = b""  # of a head without its target yet
        self._ends = 0  # of requests
        self.in_head = False
        self.receiving: Request | None = None
        self.heads = 0
        self.ended = False

    def feed(self, data: bytes) -> HttpProblem | None:
        """Take in what has come; returns why nothing more can be made of it, if that is so."""
        if len(data) <= MAX_PIECE_BYTES:
            return self._feed(data)
        view = memoryview(data)
        for begin in range(0, len(data), MAX_PIECE_BYTES):
            problem = self._feed(view[begin : begin + MAX_PIECE_BYTES])
            if problem is not None:
                return problem
        return None

    def abandon(self) -> Request | None:
        """Make nothing more of what comes; returns the request whose body was on its way."""
        request, self.receiving = self.receiving, None
        self.in_head = False
        self.ended = True
        return request

    def close(self) -> None:
        """Let go of the parser, which refers to this object."""
        self.abandon()
        del self._parser

    def _feed(self, data: bytes | memoryview) -> HttpProblem | None:
        if self.ended and self.receiving is None:
            return None
        self._may_be_too_large = was_in_head = self.in_head
        if self.receiving is not None:
            self.receiving.silence += len(data)
        ends = self._ends
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError as error:
            log.error("a request could not be taken in", exc_info=error)
            return problems.internal_error()
        except httptools.HttpParserError as error:
            return self._name_mistake(error, bytes(data), is_behind_another=self._ends > ends)
        if self.in_head:
            if not self._target:
                is_behind_another = self._ends > ends
                self._start += _last_token(data) if is_behind_another else data
            elif (problem := self._find_other_version(data)) is not None:
                return problem
            if was_in_head:
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    return problems.head_too_large(MAX_HEAD_BYTES)
        if self.receiving is not None and self.receiving.silence > MAX_HEAD_BYTES:
            return problems.head_too_large(MAX_HEAD_BYTES)
        return None

    def _parse(self, data: bytes | memoryview) -> None:
        while True:
            try:
                return self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self.ended:
                    return None
                # To llhttp what follows is another protocol. It is the body, and so it goes to a new parser, behind a
                # head without the offer.
                method, version = self._parser.get_method(), self._parser.get_http_version()
                head = without_upgrade(method, self._target, version, self._fields, self._repeated)
                data = head + data[upgrade.args[0] :]
                self._parser = httptools.HttpRequestParser(self)

    def _find_other_version(self, data: bytes | memoryview) -> HttpProblem | None:
        """Tell a client of another version so at once: one of HTTP/0.9 sends a line, and then waits."""
        version = self._parser.get_http_version()
        if version == _NO_VERSION and data[-1:] == b"\n":
            version = "0.9"
        return None if version in (*VERSIONS, _NO_VERSION) else problems.unsupported_version(version)

    def _name_mistake(self, error: httptools.HttpParserError, data: bytes, *, is_behind_another: bool) -> HttpProblem:
        version = self._parser.get_http_version()
        if version not in (*VERSIONS, _NO_VERSION):
            return problems.unsupported_version(version)
        if isinstance(error, httptools.HttpParserInvalidMethodError):
            # where in the data the method stands is not said
            start = _REQUEST_LINE.finditer(data) if is_behind_another else [_METHOD.match(self._start + data)]
            if any(found is not None and not _is_method(found[1]) for found in start):
                return problems.unknown_method()
            return problems.malformed("this is not HTTP")
        if _OF_OTHER_PROTOCOLS in str(error):
            return problems.unknown_method()
        return problems.malformed(f"this is not HTTP: {error}")

    # The names are those by which httptools finds what it calls.

    def on_message_begin(self) -> None:
        """Begin a head."""
        self.in_head = True
        self._start = b""
        self._target = b""
        self._fields = {}
        self._repeated = None
        self._head_bytes = 0
        self.heads += 1

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field: of the head, or a trailer, which never changes the head."""
        if self.receiving is not None:
            self._check_trailer(self.receiving, name, value)
            return
        name = name.lower()
        if name in self._fields:
            if name in SINGLETONS:
                self._repeated = name
            value = self._fields[name] + b", " + value
        self._fields[name] = value

    def on_headers_complete(self) -> None:
        """Hand the request over."""
        self.in_head = False
        self._head_bytes = 0
        if self.ended:
            return
        method = self._parser.get_method()
        is_connect = method == b"CONNECT"
        if self._parser.should_upgrade() and not is_connect:
            return  # llhttp stops here, and is made to go on
        version = self._parser.get_http_version()
        path = None if is_connect else path_of(self._target)
        # CONNECT asks for a tunnel, whatever its target, and llhttp does not go on behind it
        fault = problems.unknown_method() if is_connect else find_fault(version, path, self._fields, self._repeated)
        if self._may_be_too_large and self._head_size() > MAX_HEAD_BYTES:
            fault = problems.head_too_large(MAX_HEAD_BYTES)
        request = Request(
            self._channel, method.decode("latin-1"), path or "", version, self._fields, self._max_body, fault
        )
        if fault is not None:
            self.ended = True
        elif not self._parser.should_keep_alive():
            request.closes = True
        self.receiving = request
        self._take(request)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if self.receiving is not None:
            self.receiving.add(body)

    def on_message_complete(self) -> None:
        """End the body."""
        self._ends += 1
        request, self.receiving = self.receiving, None
        if request is not None:
            request.finish()
            if request.closes:
                self.ended = True

    def _check_trailer(self, request: Request, name: bytes, value: bytes) -> None:
        self._head_bytes += _size(name, value)
        problem = None
        if name.lower() == b"connection":  # llhttp would heed it
            problem = problems.malformed("the field connection is a trailer")
        elif self._head_bytes > MAX_HEAD_BYTES:
            problem = problems.head_too_large(MAX_HEAD_BYTES)
        if problem is not None:
            request.closes = True
            request.fail(problem)

    def _head_size(self) -> int:
        return len(self._target) + sum(_size(*field) for field in self._fields.items())


def _last_token(data: bytes | memoryview) -> bytes:
    """Return the token with which data ends, if it does."""
    found = _LAST_TOKEN.search(data)
    return found[1] or b"" if found else b""


def _is_method(token: bytes) -> bool:
    """Whether llhttp takes it for a method."""
    try:
        httptools.HttpRequestParser(None).feed_data(token + b" ")
    except httptools.HttpParserInvalidMethodError:
        return False
    return True


def _size(name: bytes, value: bytes) -> int:
    """Return how many bytes a field takes."""
    return len(name) + len(value) + len(b": \r\n")
