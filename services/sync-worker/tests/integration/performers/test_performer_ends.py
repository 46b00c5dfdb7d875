"""Performer events at the ends of every type, in a database: each row is written, or its event has a code.

`make fuzz` sets `ENDS=all`: then they are of each type, and at each time.
"""

import os

from safevideo_common.database.engine import Database
from safevideo_common.events.performer import TYPES
from safevideo_common.events.topics import SYNC_WORKER
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.fuzz.ends_processor import EndsProcessor
from safevideo_testkit.fuzz.webhook_ends import TIMES, performer_ends


async def test_no_performer_event_at_an_end_of_a_type_is_dead_by_what_nobody_named(
    database: Database, log: FilteringBoundLogger
) -> None:
    if os.environ.get("ENDS") == "all":
        ends = list(performer_ends())
    else:  # `profile` has the members of `changes`, and both types have the same
        ends = [each for each in performer_ends(TIMES[-1:], TYPES[:1]) if not each.path.startswith("data.profile.")]
    outcomes = await EndsProcessor(SYNC_WORKER, database, log).process(ends)
    assert outcomes["applied"] > 50
