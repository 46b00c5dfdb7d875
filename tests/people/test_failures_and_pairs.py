"""Every I/O of every operation fails once, and every two operations meet at every I/O: a sample, or all of them.

`PEOPLE=long` tries all. `PEOPLE_OPERATIONS="merge one,unmerge"` tries these alone, and
`PEOPLE_FIRST` stops these alone.
"""

import os
from functools import partial
from hashlib import sha256

from safevideo_testkit.people_model.catalogue import CATALOGUE
from safevideo_testkit.people_model.runs import Runner
from safevideo_testkit.people_model.world import World

LONG = os.environ.get("PEOPLE") == "long"
NAMES = [each for each in os.environ.get("PEOPLE_OPERATIONS", "").split(",") if each]
FIRST_NAMES = [each for each in os.environ.get("PEOPLE_FIRST", "").split(",") if each]
OPERATIONS = [each for each in CATALOGUE if not NAMES or each.name in NAMES]
FIRST = [each for each in OPERATIONS if not FIRST_NAMES or each.name in FIRST_NAMES]
ALL = LONG or bool(NAMES)
ONE_OF_OPERATIONS, ONE_OF_FAILURES, ONE_OF_PAIRS, ONE_OF_POINTS = 8, 12, 200, 12


async def test_operation_that_failed_anywhere_and_is_repeated_ends_as_one(world: World) -> None:
    runner = Runner(world, print if ALL else None)
    for operation in OPERATIONS:
        if not _chosen(ONE_OF_OPERATIONS, operation.name):
            continue
        await runner.failures_of(operation, partial(_chosen, ONE_OF_FAILURES, operation.name))
    print(runner.report)
    assert not runner.report.found, "\n".join(runner.report.found)


async def test_two_operations_that_meet_end_as_one_after_the_other(world: World) -> None:
    runner = Runner(world, print if ALL else None)
    for first in FIRST:
        for second in OPERATIONS:
            if _chosen(ONE_OF_PAIRS, first.name, second.name):
                await runner.pair(first, second, partial(_chosen, ONE_OF_POINTS, first.name))
    print(runner.report)
    assert not runner.report.found, "\n".join(runner.report.found)


def _chosen(one_of: int, *what: object) -> bool:
    """Return whether a run is in the sample, which is the same each time."""
    return ALL or int.from_bytes(sha256(repr(what).encode()).digest()[:4]) % one_of == 0
