"""The quarantine as operators see it: every webhook that was refused and is kept, without its body."""

from safevideo_common.database import rejected_browser
from safevideo_common.database.engine import Database
from safevideo_common.database.rejected_browser import Order, RejectedFilter, RejectedRecord
from safevideo_common.errors import NotFound


class BrowseRejected:
    """Reads the quarantine. Raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, wanted: RejectedFilter, *, page: int, limit: int, order: Order
    ) -> tuple[list[RejectedRecord], int]:
        """One page by time of reception, counted from 1, and the number of all that match."""
        async with self._database.reading() as reading:
            return await rejected_browser.find(reading, wanted, page=page, limit=limit, order=order)

    async def one(self, row_id: int) -> RejectedRecord:
        """The facts of one. Raises `NotFound`: it may have been evicted since it was listed."""
        async with self._database.reading() as reading:
            record = await rejected_browser.get(reading, row_id)
        if record is None:
            raise NotFound("There is no such webhook in quarantine.")
        return record
