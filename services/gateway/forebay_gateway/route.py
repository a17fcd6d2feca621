"""route: which operation a request is for."""

from __future__ import annotations

from dataclasses import dataclass

from forebay.catalog import CatalogEntry
from forebay_gateway import problems
from forebay_gateway.payloads import PayloadCodec
from forebay_schemas import topics as topic_names

PREFIX = "/v1/"


@dataclass(frozen=True, slots=True)
class Route:
    """All that a request to one operation needs, worked out when the catalog changed.

    Attributes:
        operation: its name.
        path: where it is served.
        tier: the lane its jobs take.
        topic: the topic of its app's jobs of that lane.
        deadline: seconds that a caller is held at the most.
        accepts: media type of the request.
        request: turns JSON into the payload; None for opaque bytes.
        results: turn the payload into JSON, by the fingerprint of the schema that wrote it.
    """

    operation: str
    path: str
    tier: str
    topic: str
    deadline: float
    accepts: str
    request: PayloadCodec | None
    results: dict[bytes, PayloadCodec]


class Router:
    """The operations that are served, as the catalog has them now."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._routes: dict[str, Route] = {}

    def update(self, name: str, entry: CatalogEntry | None) -> None:
        """Take in a change of the catalog."""
        if entry is None:
            self._routes.pop(PREFIX + name, None)
            return
        message = entry.message
        results = [PayloadCodec(text) for text in message["result_schemas"]]
        self._routes[PREFIX + name] = Route(
            operation=name,
            path=PREFIX + name,
            tier=message["tier"],
            topic=topic_names.jobs(self._namespace, message["app"], message["tier"]),
            deadline=message["deadline_ms"] / 1000,
            accepts=message["accepts"],
            request=PayloadCodec(message["request_schemas"][0]) if message["request_schemas"] else None,
            results={codec.fingerprint: codec for codec in results},
        )

    def find(self, method: str, path: str) -> Route:
        """Return the route of a request.

        Raises:
            HttpProblem: 404 where nothing is served, 405 where another method is.
        """
        route = self._routes.get(path)
        if route is None:
            raise problems.unknown_operation(path)
        if method != "POST":
            raise problems.wrong_method(method, "POST")
        return route
