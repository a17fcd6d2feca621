"""A link that is shared, or made for one user: so that a producer or consumer also works by itself."""

from __future__ import annotations

from forebay.kafka.link import Link
from forebay.settings import Settings


class SharedLink:
    """A link for as long as something uses it: one that was given, or one of its own.

    Args:
        settings: where the cluster is.
        client: name of the client, for the broker's logs.
        link: one that its owner starts and stops; None makes one.
    """

    def __init__(self, settings: Settings, client: str, link: Link | None) -> None:
        self._own = link is None
        self.link = link or Link(settings, client)

    async def start(self) -> Link:
        """Return the link, connected. Raises as `Link.start`."""
        if self._own:
            await self.link.start()
        return self.link

    async def stop(self) -> None:
        """Disconnect, if the link is its own."""
        if self._own:
            await self.link.stop()
