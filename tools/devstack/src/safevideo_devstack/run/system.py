"""A stack that is up."""

import asyncio
from dataclasses import dataclass

from safevideo_devstack.run.run import BackendUrls


@dataclass(frozen=True, slots=True)
class System:
    """All services answer. `failures` are done, each with its error, when a part has died that nobody starts again."""

    backends: BackendUrls
    failures: tuple["asyncio.Future[None]", ...]

    async def failure(self) -> None:
        """Return never; raise the first error."""
        done, _ = await asyncio.wait(self.failures, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()
