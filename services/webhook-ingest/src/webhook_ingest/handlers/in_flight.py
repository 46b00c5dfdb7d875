"""How many webhooks one process has in hand."""

from typing import Final

from safevideo_common.errors import Overloaded

RETRY_AFTER_SECONDS: Final = 1


class InFlight:
    """At most `limit` at once: `with in_flight:` around all that is done for one, the reading of its body included.

    Entering raises `Overloaded` when there are as many: whoever is one too many learns it at once, not after a queue.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.now = 0

    def __enter__(self) -> None:
        if self.now >= self._limit:
            raise Overloaded("More webhooks are in hand than this server takes.", retry_after=RETRY_AFTER_SECONDS)
        self.now += 1

    def __exit__(self, *_raised: object) -> None:
        self.now -= 1
