"""Topics of the app that somebody has deleted are created again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from forebay import topics
from forebay.errors import BrokerError
from forebay.settings import Settings
from forebay_processor.dead_letters import DeadLetters
from forebay_processor.fetch import Fetcher

log = logging.getLogger(__name__)

LOOK_FOR_TOPICS = 1.0
"""Seconds between two looks at whether a topic is gone."""


class AppTopics:
    """Keeps the topics of an app there.

    Args:
        settings: where the cluster is, and what the topics are like.
        app: whose they are.
        fetchers: know when a topic is gone that they read.
        dead_letters: knows when its topic is gone.

    Attributes:
        trouble: why topics that are gone cannot be created again; None while they can, or none is gone.
    """

    def __init__(self, settings: Settings, app: str, fetchers: Collection[Fetcher], dead_letters: DeadLetters) -> None:
        self._settings = settings
        self._specs = topics.of_processor(settings, app)
        self._fetchers = fetchers
        self._dead_letters = dead_letters
        self._gone = ""
        self.trouble: str | None = None

    async def keep(self) -> None:
        """Look for topics that are gone and create them again, until cancelled; run it as a task."""
        while True:
            await asyncio.sleep(LOOK_FOR_TOPICS)
            gone = [fetcher.name for fetcher in self._fetchers if fetcher.topic_is_gone]
            if self._dead_letters.topic_is_gone:
                gone.append("dead letters")
            if gone:
                await self._restore(", ".join(gone))
            elif self._gone:
                log.info("the topics of %s are there again", self._gone)
                self._gone, self.trouble = "", None

    async def _restore(self, gone: str) -> None:
        if not self._gone:
            log.warning("the topics of %s are gone, and are created again", gone)
            self._gone = gone
        try:
            await topics.ensure(self._settings, self._specs)
        except BrokerError as error:
            trouble = f"the topics of {gone} are gone, and cannot be created again: {error}"
            if self.trouble is None:
                log.warning("%s; it is tried again", trouble)
            self.trouble = trouble
        else:
            self.trouble = None
