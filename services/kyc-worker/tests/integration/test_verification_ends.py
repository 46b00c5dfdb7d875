"""Verification events at the ends of every type, in a database: each row is written, or its event has a code.

`make fuzz` sets `ENDS=all`: then they are of each type, and at each time.
"""

import os

from safevideo_common.database.engine import Database
from safevideo_common.events.kyc import TYPES
from safevideo_common.events.topics import KYC_WORKER
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.fuzz.ends_processor import EndsProcessor
from safevideo_testkit.fuzz.webhook_ends import TIMES, verification_ends


async def test_no_verification_at_an_end_of_a_type_is_dead_by_what_nobody_named(
    database: Database, log: FilteringBoundLogger
) -> None:
    ends = verification_ends() if os.environ.get("ENDS") == "all" else verification_ends(TIMES[-1:], TYPES[:1])
    outcomes = await EndsProcessor(KYC_WORKER, database, log).process(ends)
    assert outcomes["applied"] > 50
