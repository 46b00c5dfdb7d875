"""The state machine: acts on people in any order, on either replica, with faults, and every invariant after each."""

import asyncio
import copy
from collections.abc import Coroutine
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sqlalchemy import select

from safevideo_common.auth.api_keys import Role
from safevideo_common.database.tables import erased_identifiers, erasure_orders
from safevideo_testkit.people_model import acts
from safevideo_testkit.people_model.acts import Act
from safevideo_testkit.people_model.checks import check, other_tasks
from safevideo_testkit.people_model.model import CAST, Model, Order
from safevideo_testkit.people_model.points import Fault
from safevideo_testkit.people_model.runs import OK, Outcome, perform, repeated, settle
from safevideo_testkit.people_model.stage import CALLER, Saved, Stage, identity_of, plant_request, set_up
from safevideo_testkit.people_model.world import Stored, World

Result = TypeVar("Result")

PEOPLE: Final = tuple(name for name in CAST if name != "fay")
PERFORMERS: Final = tuple(name for name in PEOPLE if CAST[name].performer)
PERSON: Final = st.sampled_from(PEOPLE)
PERFORMER: Final = st.sampled_from(PERFORMERS)
REPLICA: Final = st.sampled_from(("first", "second"))
FAULT: Final = st.none() | st.tuples(st.integers(0, 40), st.sampled_from(Fault))
"""What happens to an act that its caller then repeats: nothing, or a fault at a point."""
CONFLICT: Final = "USER_MAPPING_CONFLICT"
STATUS: Final = st.sampled_from(("pending", "in_progress", "in_review", "verified", "rejected"))

DECISION: Final = st.sampled_from((acts.approve, acts.reject, acts.reopen))
RESULT: Final = st.sampled_from(("passed", "failed", "review"))


class PeopleMachine(RuleBasedStateMachine):
    """Acts on four people; a fifth looks on. A test sets `world` and `runner`."""

    world: ClassVar[World]
    runner: ClassVar[asyncio.Runner]
    steps: ClassVar[int] = 0
    examples: ClassVar[int] = 0
    empty: ClassVar[Saved | None] = None

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.number = 0
        self.backup: tuple[Stored, Model] | None = None
        self.before: Stored | None = None

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run in the event loop of the test."""
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        """Put the cast on the empty stage."""
        self.stage = self.do(self._begin())

    async def _begin(self) -> Stage:
        machine = type(self)
        if machine.empty is None:
            machine.empty = await (await set_up(self.world)).save()
        stage = Stage(self.world)
        await stage.put_back(machine.empty)
        return stage

    def act(self, act: Act, replica: str, fault: tuple[int, Fault] | None = None) -> Outcome:
        """Do an act, repeat it if it failed, tell the model, and check everything."""
        type(self).steps += 1
        return self.do(self._act(act, replica, fault))

    async def _act(self, act: Act, name: str, fault: tuple[int, Fault] | None) -> Outcome:
        replica = self.world.first if name == "first" else self.world.second
        tasks = other_tasks()
        number, kind = fault or (None, None)
        replica.points.begin(fault_at=number, fault=kind)
        outcome = await perform(self.stage, act, replica)
        if outcome.is_transient:
            if replica.points.is_dead:
                replica.restart()
            outcome = await repeated(self.stage, act, replica)
        if outcome.code == OK:
            act.accept(self.stage, outcome.result)
        replica.points.begin()
        await self._look_at_orders()
        await self._check(act.name, idle=False)
        assert not (left := other_tasks() - tasks), f"{act}: {left} are left"
        assert outcome.code.isupper() or outcome.code == OK, f"{act} ended with {outcome.code}"
        return outcome

    async def _check(self, after: str, *, idle: bool) -> None:
        wrong, self.before = await check(self.stage, self.before, idle=idle)
        assert not wrong, f"after {after}: " + "; ".join(wrong)

    async def _look_at_orders(self) -> None:
        """Learn which orders have started: a job that was killed may have got there, or not."""
        async with self.world.database.read_connection() as reading:
            query = select(erasure_orders.c.id).where(erasure_orders.c.started_at.is_not(None))
            started = set(await reading.scalars(query))
        for each in self.stage.model.orders:
            each.is_started = each.id in started

    def teardown(self) -> None:
        """Let everything come to rest, and check that no file and no order is left."""
        if hasattr(self, "stage"):
            self.do(self._rest())

    async def _rest(self) -> None:
        await settle(self.stage)
        self.stage.model.run_erasures()
        await self._look_at_orders()
        self.stage.model.excused |= set(CAST)
        await self._check("everything came to rest", idle=True)

    @rule(who=PERSON, replica=REPLICA, fault=FAULT)
    def sign_in(self, who: str, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Sign in."""
        outcome = self.act(acts.signs_in(who), replica, fault)
        if not self.stage.model.has_order(who) and not self.stage.model.is_suspended(who):
            may_conflict = CAST[who].provider is None and not CAST[who].performer
            assert outcome.code == OK or (may_conflict and outcome.code == CONFLICT), f"{who}: {outcome.code}"

    @rule(who=PERSON, replica=REPLICA, fault=FAULT)
    def sign_out(self, who: str, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Sign out of the newest session."""
        if any(each.opener == who for each in self.stage.model.sessions):
            self.act(acts.signs_out(who), replica, fault)

    @rule(who=PERSON, replica=REPLICA, fault=FAULT)
    def sign_out_everywhere(self, who: str, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Sign out everywhere."""
        self.act(acts.signs_out_everywhere(who), replica, fault)

    @rule(who=PERSON, replica=REPLICA, fault=FAULT)
    def sign_out_by_provider(self, who: str, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Receive a logout token."""
        self.number += 1
        self.act(acts.is_signed_out_by_provider(who, self.number), replica, fault)

    @rule(who=PERSON, others=st.lists(PERSON, min_size=1, max_size=2, unique=True), replica=REPLICA, fault=FAULT)
    def merge(self, who: str, others: list[str], replica: str, fault: tuple[int, Fault] | None) -> None:
        """Merge one or several."""
        if who not in others:
            self.act(acts.merge(who, *others), replica, fault)

    @rule(who=PERSON, replica=REPLICA, fault=FAULT)
    def unmerge(self, who: str, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Take a merge back."""
        outcome = self.act(acts.unmerge(who), replica, fault)
        assert outcome.code != OK or who not in self.stage.model.parent

    @rule(who=PERSON, role=st.sampled_from(Role), replica=REPLICA, fault=FAULT)
    def give_role(self, who: str, role: Role, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Give a role."""
        self.act(acts.gets_role(who, role), replica, fault)

    @rule(who=PERSON, act=st.sampled_from((acts.suspend, acts.reinstate)), replica=REPLICA, fault=FAULT)
    def suspend(self, who: str, act: Any, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Suspend or reinstate."""
        self.act(act(who), replica, fault)

    @rule(who=PERSON, replica=REPLICA)
    def hold(self, who: str, replica: str) -> None:
        """Place a hold on an account."""
        self.number += 1
        outcome = self.act(acts.hold(who, reason=f"case {self.number}"), replica)
        if not self.stage.model.has_order(who):
            assert outcome.code == OK, f"no hold on {who}: {outcome.code}"

    @rule(who=PERFORMER, replica=REPLICA)
    def hold_performer(self, who: str, replica: str) -> None:
        """Place a hold on a performer."""
        self.number += 1
        self.act(acts.hold(who, as_performer=True, reason=f"case {self.number}"), replica)

    @rule(who=PERSON, replica=REPLICA, fault=FAULT)
    def release(self, who: str, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Release all holds on a person."""
        self.act(acts.release(who), replica, fault)

    @rule(who=PERSON, replica=REPLICA, fault=FAULT)
    def order_erasure(self, who: str, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Order an erasure."""
        outcome = self.act(acts.order_erasure(who), replica, fault)
        if not self.stage.model.is_held(who):
            assert outcome.code == OK, f"no order on {who}: {outcome.code}"

    @rule(replica=REPLICA, fault=FAULT)
    def run_erasures(self, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Run the erasure job to its end."""
        self.act(acts.run_erasures(), replica, fault)

    @precondition(lambda self: self.stage.model.orders)
    @rule(replica=REPLICA, number=st.integers(0, 120))
    def begin_erasures(self, replica: str, number: int) -> None:
        """Run the erasure job in part: its worker is killed, and nobody repeats it yet."""
        act = acts.run_erasures()
        killed = Act(f"{act} killed at {number}", self._killed(act, number))
        self.act(killed, replica)

    def _killed(self, act: Act, number: int) -> Any:
        async def run(stage: Stage, replica: Any) -> None:
            replica.points.begin(fault_at=number, fault=Fault.KILLED)
            outcome = await perform(stage, act, replica)
            if outcome.code == OK:
                act.accept(stage, outcome.result)
            replica.restart()
            replica.points.begin()

        return run

    @rule(who=PERFORMER, status=STATUS, days=st.sampled_from((1, 60, 800, 4000)), slots=st.integers(0, 3))
    def request_exists(self, who: str, status: str, days: int, slots: int) -> None:
        """Have a KYC request of somebody who is not to be erased."""
        key = f"{who} {status}"
        if not self.stage.model.has_order(who) and key not in self.stage.requests:
            self.do(plant_request(self.stage, who, status, days_ago=days, slots=slots))
            self.do(self._check(f"a request {key}", idle=False))

    @rule(who=PERFORMER, replica=REPLICA)
    def submit(self, who: str, replica: str) -> None:
        """Submit a request."""
        self.act(acts.submit(who), replica)

    @rule(who=PERFORMER, field=st.sampled_from(("idFront", "selfie", "proofOfAddress")), replica=REPLICA)
    def upload(self, who: str, field: str, replica: str) -> None:
        """Upload a document."""
        for key in (f"{who} submitted", f"{who} pending"):
            if key in self.stage.requests:
                self.act(acts.upload(key, field), replica)
                return

    @rule(who=PERFORMER, status=STATUS, decision=DECISION, replica=REPLICA)
    def decide(self, who: str, status: str, decision: Any, replica: str) -> None:
        """Approve, reject or reopen a request."""
        if (key := f"{who} {status}") in self.stage.requests:
            self.act(decision(key), replica)

    @rule(
        who=PERFORMER,
        status=STATUS,
        result=st.sampled_from(("passed", "failed", "review")),
        replica=REPLICA,
        fault=FAULT,
    )
    def result(self, who: str, status: str, result: str, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Receive the result of a verification."""
        if f"{who} {status}" in self.stage.requests:
            self.number += 1
            self.act(acts.result_arrives(f"{who} {status}", result, self.number), replica, fault)

    @rule(who=PERFORMER, replica=REPLICA, fault=FAULT)
    def profile(self, who: str, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Receive a changed profile."""
        self.number += 1
        self.act(acts.profile_changes(who, self.number), replica, fault)

    @rule(
        job=st.sampled_from((acts.run_retention, acts.run_expiry, acts.run_cleanup, acts.run_resync, acts.run_deleter)),
        replica=REPLICA,
        fault=FAULT,
    )
    def run_job(self, job: Any, replica: str, fault: tuple[int, Fault] | None) -> None:
        """Run a periodic job."""
        self.act(job(), replica, fault)

    @rule(days=st.sampled_from((1, 40, 400, 2000)))
    def time_passes(self, days: int) -> None:
        """Let time pass."""
        self.act(acts.time_passes(days), "first")

    @rule()
    def back_up(self) -> None:
        """Make a backup."""
        self.backup = (self.do(self.world.save()), copy.deepcopy(self.stage.model))

    @precondition(lambda self: self.backup is not None)
    @rule()
    def restore(self) -> None:
        """Restore the backup as the runbook says: with today's holds and orders."""
        assert self.backup is not None
        self.do(self._restore(*self.backup))

    async def _restore(self, stored: Stored, model: Model) -> None:
        holds, erasures = self.world.judge.services.holds, self.world.judge.services.erasures
        exported_holds, exported_orders = await holds.export(), await erasures.export()
        now = self.stage.model
        await self.world.put_back_rows(stored.rows, counters=True)
        self.world.put_back_files({**(await self.world.save()).files, **stored.files})
        self.world.restart()
        await holds.import_holds(exported_holds, CALLER)
        await erasures.import_orders(exported_orders, CALLER)
        restored = copy.deepcopy(model)
        restored.holds, restored.erased, restored.sessions = now.holds, set(), now.sessions
        restored.orders = await self._orders()
        for each in restored.sessions:
            each.may_be_ended = True
            each.is_ended = each.is_ended and restored.root(each.opener) != each.account
        restored.audited = await self._audited()
        self.stage.model = restored
        self.before = None
        await self._look_at_orders()
        await self._check("a restore", idle=False)

    async def _orders(self) -> list[Order]:
        """Return the orders of a restored database, whose numbers may be others than before."""
        o, i = erasure_orders.c, erased_identifiers.c
        async with self.world.database.read_connection() as reading:
            orders = (await reading.execute(select(o.id, o.applied_at).order_by(o.id))).all()
            rows = (await reading.execute(select(i.order_id, i.identifier))).all()
        names = {each.sharegram_id: name for name, each in CAST.items()}
        names |= {identity_of(each).digest: name for name, each in CAST.items()}
        names |= {str(user_id): name for name, user_id in self.stage.accounts.items()}
        named = [(row.order_id, names[row.identifier]) for row in rows if row.identifier in names]
        return [
            Order(
                each.id, frozenset(name for order_id, name in named if order_id == each.id), each.applied_at is not None
            )
            for each in orders
        ]

    async def _audited(self) -> dict[str, int]:
        counted: dict[str, int] = {}
        for row in (await self.world.save()).rows["audit_log"]:
            counted[row["action"]] = counted.get(row["action"], 0) + 1
        return counted
