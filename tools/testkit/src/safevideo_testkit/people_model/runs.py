"""Runs of operations with a fault at each of their points, and of two at once, compared with runs one after the other.

- A failed operation that is repeated must end as one that never failed, or as one that was done twice.
- Two at once must end as one of the two orders ends, with the same answers.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import text

from safevideo_common.errors import SafeVideoError, ServiceUnavailable, SsoAuthFailed
from safevideo_common.jobs.handler import RetryableJobError
from safevideo_testkit.people_model import acts
from safevideo_testkit.people_model.acts import Act
from safevideo_testkit.people_model.catalogue import Operation, situation
from safevideo_testkit.people_model.checks import Facts, differences, facts, open_transactions, other_tasks
from safevideo_testkit.people_model.points import FAULTS, Fault, Killed, Kind, Point
from safevideo_testkit.people_model.replica import Replica
from safevideo_testkit.people_model.stage import Saved, Stage
from safevideo_testkit.people_model.world import Stored, World

OK: Final = "ok"
REPEATS: Final = 4
LOOK_SECONDS: Final = 0.01
DEADLINE_SECONDS: Final = 30.0
MAX_POINTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an operation: `ok`, the code of an error, or what stopped it."""

    code: str = field(compare=False)
    is_transient: bool = False
    is_refused: bool = False
    """With one of several codes: which one depends on what is looked at first."""
    result: Any = field(default=None, compare=False)


@dataclass(slots=True)
class Report:
    """The numbers of what was run, and the findings."""

    operations: int = 0
    points: int = 0
    faults: int = 0
    pairs: int = 0
    pairs_without_situation: int = 0
    interleavings: int = 0
    serialized: int = 0
    found: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"{self.operations} operations, {self.points} points {dict(self.kinds)}, {self.faults} failures, "
            f"{self.pairs} pairs ({self.pairs_without_situation} cannot meet), {self.interleavings} interleavings "
            f"({self.serialized} waited for a lock), {len(self.found)} found"
        )


class Runner:
    """Runs operations in one world. Situations are made once and put back."""

    def __init__(self, world: World, say: Callable[[str], None] | None = None) -> None:
        """`say` is told of each operation and pair, and of what is found, at once."""
        self._world = world
        self._say = say or (lambda _line: None)
        self._situations: dict[frozenset[str], tuple[Stage, Saved] | None] = {}
        self._serial: dict[tuple[str, ...], tuple[list[Outcome], Facts]] = {}
        self.report = Report()

    def _found(self, lines: Iterable[str]) -> None:
        for each in lines:
            self.report.found.append(each)
            self._say(f"  FOUND {each}")

    async def stage(self, *operations: Operation) -> Stage | None:
        """Return the situation that the operations need, fresh; None if there is none."""
        needs = frozenset(each for operation in operations for each in operation.needs)
        if needs not in self._situations:
            try:
                stage = await situation(self._world, tuple(needs))
                self._situations[needs] = (stage, await stage.save())
            except SafeVideoError:
                self._situations[needs] = None
        found = self._situations[needs]
        if found is None:
            return None
        stage, saved = found
        await stage.put_back(saved)
        return stage

    async def points(self, operation: Operation) -> Sequence[Point]:
        """Return the points of an operation in its own situation."""
        stage = await self.stage(operation)
        assert stage is not None, operation.name
        outcome, reached = await self._alone(stage, operation.make(), stage.world.first)
        assert outcome.code == OK, (operation.name, outcome)
        return reached

    async def _alone(self, stage: Stage, act: Act, replica: Replica) -> tuple[Outcome, Sequence[Point]]:
        replica.points.begin()
        outcome = await perform(stage, act, replica)
        return outcome, list(replica.points.reached)

    async def serial(self, situation_of: Sequence[Operation], *order: Operation) -> tuple[list[Outcome], Facts]:
        """Return outcomes and facts of operations one after the other: the first named one on the first replica."""
        key = (*sorted(each for operation in situation_of for each in operation.needs), "|", *(o.name for o in order))
        if key not in self._serial:
            stage = await self.stage(*situation_of)
            assert stage is not None
            outcomes = []
            for operation in order:
                replica = stage.world.first if operation is situation_of[0] else stage.world.second
                replica.points.begin()
                outcomes.append(await perform(stage, operation.make(), replica))
            self._serial[key] = (outcomes, await facts(stage, await settle(stage)))
        return self._serial[key]

    async def failures_of(
        self, operation: Operation, chosen: Callable[[int, Fault], bool] = lambda _number, _fault: True
    ) -> None:
        """Try the faults at the points of an operation, each with a repetition."""
        reached = await self.points(operation)
        self.report.operations += 1
        self._say(f"{operation.name}: {len(reached)} points ({self.report.faults} failures so far)")
        self.report.points += len(reached)
        self.report.kinds.update(each.kind for each in reached)
        _, once = await self.serial([operation], operation)
        _, twice = await self.serial([operation], operation, operation)
        for number, point in enumerate(reached):
            for fault in FAULTS[point.kind]:
                if chosen(number, fault):
                    await self._fail(operation, number, point, fault, (once, twice))

    async def _fail(
        self, operation: Operation, number: int, point: Point, fault: Fault, expected: Sequence[Facts]
    ) -> None:
        stage = await self.stage(operation)
        assert stage is not None
        world, act, tasks = stage.world, operation.make(), other_tasks()
        world.first.points.begin(fault_at=number, fault=fault)
        outcome = await perform(stage, act, world.first)
        if outcome.code != OK:
            if world.first.points.is_dead:
                world.first.restart()
            world.first.points.begin()
            outcome = await repeated(stage, act, world.first)
        left = other_tasks() - tasks
        wrong = [f"{len(left)} tasks are left"] if left else []
        stored = await settle(stage)
        wrong += await open_transactions(world)
        found = await facts(stage, stored)
        if found not in expected:
            wrong += differences(expected[0], found)
        self.report.faults += 1
        where = f"{operation.name}: {fault} at {number} ({point.kind} {point.text[:70]!r})"
        if outcome.is_transient:
            wrong.append(f"it never ends: {outcome.code}")
        self._found(f"{where}; then {each}" for each in wrong)

    async def pair(self, x: Operation, y: Operation, chosen: Callable[[int], bool] = lambda _number: True) -> None:
        """Stop `x` at each of its points, run `y` whole on the other replica, and let `x` go on."""
        stage = await self.stage(x, y)
        if stage is None:
            self.report.pairs_without_situation += 1
            return
        expected = [await self.serial((x, y), x, y), await self.serial((x, y), y, x)]
        expected[1] = (expected[1][0][::-1], expected[1][1])
        self.report.pairs += 1
        self._say(f"{x.name} x {y.name} ({self.report.interleavings} interleavings so far)")
        for number in filter(chosen, range(MAX_POINTS)):
            if not await self._interleave(x, y, number, expected):
                return

    async def _interleave(
        self, x: Operation, y: Operation, number: int, expected: Sequence[tuple[list[Outcome], Facts]]
    ) -> bool:
        """Return whether `x` has a point of this number."""
        stage = await self.stage(x, y)
        assert stage is not None
        world, tasks = stage.world, other_tasks()
        act_x, act_y = x.make(), y.make()
        world.first.points.begin(stop_at=number)
        world.second.points.begin()
        stopped = asyncio.create_task(world.first.points.is_stopped.wait())
        running_x = asyncio.create_task(perform(stage, act_x, world.first))
        await asyncio.wait([stopped, running_x], return_when=asyncio.FIRST_COMPLETED, timeout=DEADLINE_SECONDS)
        if not world.first.points.is_stopped.is_set():
            stopped.cancel()
            await running_x
            return False
        where = f"{x.name} stopped at {number} ({_words(world.first.points.in_progress)}) x {y.name}"
        running_y = asyncio.create_task(perform(stage, act_y, world.second))
        self.report.serialized += await _ended_or_waits(world, running_y)
        world.first.points.go_on.set()
        await asyncio.wait([running_x, running_y], timeout=DEADLINE_SECONDS)
        self.report.interleavings += 1
        if not (running_x.done() and running_y.done()):
            self._found([f"{where}: they wait for each other"])
            running_x.cancel()
            running_y.cancel()
            await asyncio.wait([running_x, running_y])
            return True
        outcomes = [running_x.result(), running_y.result()]
        for index, (act, replica) in enumerate(((act_x, world.first), (act_y, world.second))):
            if outcomes[index].is_transient:
                outcomes[index] = await repeated(stage, act, replica)
        left = other_tasks() - tasks
        stored = await settle(stage)
        wrong = await open_transactions(world) + ([f"{len(left)} tasks are left"] if left else [])
        found = (outcomes, await facts(stage, stored))
        if found not in expected:
            wrong += _closest(expected, found)
        self._found(f"{where}: {each}" for each in wrong)
        return True


def _closest(expected: Sequence[tuple[list[Outcome], Facts]], found: tuple[list[Outcome], Facts]) -> list[str]:
    """Return how a run differs from the nearer of the two orders."""
    codes = [each.code for each in found[0]]
    lines = []
    for outcomes, facts_then in expected:
        expected_codes = [each.code for each in outcomes]
        answers = [] if outcomes == found[0] else [f"answers {codes}, not {expected_codes}"]
        lines.append(answers + differences(facts_then, found[1]))
    return min(lines, key=len)


def _words(point: Point | None) -> str:
    return f"{point.kind} {point.text[:60]!r}" if point else "its end"


async def perform(stage: Stage, act: Act, replica: Replica) -> Outcome:
    """Run an act in a task of its own, and return how it ended."""

    async def run() -> Any:
        replica.points.own(asyncio.current_task())
        return await act.run(stage, replica)

    task = asyncio.ensure_future(_caught(run()))
    replica.points.own(task)
    return await task


async def _caught(work: Any) -> Outcome:
    try:
        result = await work
    except asyncio.CancelledError:
        return Outcome("cancelled", is_transient=True)
    except Killed:
        return Outcome("killed", is_transient=True)
    except (ServiceUnavailable, RetryableJobError) as error:
        return Outcome(str(getattr(error, "code", "unavailable")), is_transient=True)
    except SsoAuthFailed as error:
        # A sign-in that a sign-out has ended while it was under way begins again; any other reason is an answer.
        return Outcome(error.code, is_transient=not error.details, is_refused=bool(error.details))
    except SafeVideoError as error:
        return Outcome(error.code, is_refused=True)
    except Exception as error:  # noqa: BLE001 - a report names it
        return Outcome(f"{type(error).__name__}: {error}"[:200], is_transient=True, is_refused=True)
    return Outcome(OK, result=result)


async def repeated(stage: Stage, act: Act, replica: Replica) -> Outcome:
    """Repeat an act until it ends."""
    outcome = Outcome("none", is_transient=True)
    for _ in range(REPEATS):
        replica.points.begin()
        outcome = await perform(stage, act, replica)
        if not outcome.is_transient:
            break
    return outcome


async def settle(stage: Stage) -> Stored:
    """Run what runs by itself until nothing more is to be done, and return what is then stored."""
    stage.world.restart()
    judge, is_changed = stage.world.judge, False
    stored = await stage.world.save()
    if stored.rows["erasure_orders"]:
        await acts.run_erasures().run(stage, judge)
        is_changed = True
    if stored.rows["document_deletions"]:
        await acts.run_deleter().run(stage, judge)
        is_changed = True
    if {row["file_name"] for row in stored.rows["kyc_documents"]} != stored.documents:
        for act in (acts.time_passes(2), acts.run_cleanup(), acts.time_passes(2), acts.run_deleter()):
            await act.run(stage, judge)
        is_changed = True
    return await stage.world.save() if is_changed else stored


async def _ended_or_waits(world: World, running: "asyncio.Task[Outcome]") -> bool:
    """Wait until an operation has ended, or waits for a row that the stopped one has locked. Return whether it does.

    A wrong answer changes only when the stopped one goes on, which any moment is right for.
    """
    before = -1
    while not running.done():
        await asyncio.wait([running], timeout=LOOK_SECONDS)
        points = world.second.points
        is_same = len(points.reached) == before
        before = len(points.reached)
        at = points.in_progress
        is_statement = at is not None and at.kind is Kind.STATEMENT
        if not running.done() and is_same and is_statement and await _row_waits(world):
            return True
    return False


async def _row_waits(world: World) -> bool:
    async with world.database.read_connection() as reading:
        row = (await reading.execute(text("SHOW STATUS LIKE 'Innodb_row_lock_current_waits'"))).one()
    return int(row[1]) > 0
