"""Releasing from the quarantine: publish to the log, then mark and audit in one transaction."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.handlers.verdicts import Verdict
from safevideo_common.clock import Clock
from safevideo_common.database import audit_log, rejected_webhooks
from safevideo_common.database.audit_log import Caller
from safevideo_common.database.engine import Database
from safevideo_common.database.rejected_webhooks import Release
from safevideo_common.errors import LogUnavailable, PayloadTooLarge
from safevideo_common.messaging.port import Message, Publisher

RELEASED: Final = "webhooks.released"


class Released(NamedTuple):
    """What the log has, and why it does not have the rest."""

    releases: list[Release]
    failure: LogUnavailable | None = None


class ReleaseWebhooks:
    """A crash between publishing and marking means publishing again under the same id: the inbox makes it one event."""

    def __init__(self, database: Database, publisher: Publisher, clock: Clock) -> None:
        self._database = database
        self._publisher = publisher
        self._clock = clock

    async def release(self, holding: Sequence[Verdict], caller: Caller) -> Released:
        """Publish in order of reception what holds, and mark what the log has acknowledged.

        Those of one performer go one after the other, and none of them after one that failed; performers go side by
        side. Raises the errors of `database/faults.py`.
        """
        lanes: dict[tuple[str, bytes], list[tuple[Release, Message]]] = {}
        for verdict in holding:
            if message := verdict.message:
                release = Release(verdict.row_id, verdict.event_id)
                lanes.setdefault((message.topic, message.key), []).append((release, message))
        results = await asyncio.gather(*map(self._published, lanes.values()))
        done = sorted(release for result in results for release in result.releases)
        if done:
            await self._mark(done, caller)
        return Released(done, next((result.failure for result in results if result.failure), None))

    async def _published(self, lane: Sequence[tuple[Release, Message]]) -> Released:
        done: list[Release] = []
        for release, message in lane:
            try:
                await self._publisher.publish(message)
            except LogUnavailable as error:
                return Released(done, error)
            except PayloadTooLarge:  # by the topic's own limit: it would stand in the way of the others for ever
                continue
            done.append(release)
        return Released(done)

    async def _mark(self, releases: Sequence[Release], caller: Caller) -> None:
        details = {"ids": [each.row_id for each in releases], "eventIds": [each.event_id for each in releases]}
        async with self._database.transaction() as tx:
            await rejected_webhooks.mark_released(tx, releases, self._clock())
            await audit_log.record(tx, caller.did(RELEASED, self._clock, details))
