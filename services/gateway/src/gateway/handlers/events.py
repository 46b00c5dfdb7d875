"""The event browser: every webhook received and what became of it."""

from safevideo_common.database import inbox_browser
from safevideo_common.database.engine import Database
from safevideo_common.database.inbox_browser import InboxFilter, InboxRecord, Order, Sort
from safevideo_common.errors import NotFound


class BrowseEvents:
    """Reads the inbox. Raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, wanted: InboxFilter, *, page: int, limit: int, sort: Sort, order: Order
    ) -> tuple[list[InboxRecord], int]:
        """One page, counted from 1, and the number of all that match."""
        async with self._database.reading() as connection:
            return await inbox_browser.find(connection, wanted, page=page, limit=limit, sort=sort, order=order)

    async def one(self, given: str) -> InboxRecord:
        """The event with this row id or event id; digits are a row id first.

        Of an event that several groups consume it is the row of the first. Raises `NotFound`, and `ValidationFailed`
        for what can be neither.
        """
        async with self._database.reading() as connection:
            rows = await inbox_browser.named(connection, given)
        if not rows:
            raise NotFound("There is no such event.")
        return rows[0]
