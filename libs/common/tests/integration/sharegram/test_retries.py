"""Retries against the simulator. Delays are milliseconds here; the rules about time run in virtual time."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from safevideo_common.sharegram import operations
from safevideo_common.sharegram.client import SharegramClient
from safevideo_common.sharegram.errors import CallError, FailureReason, RetryLater, SharegramUnavailable
from safevideo_common.sharegram.metrics import SharegramMetrics
from safevideo_common.sharegram.operations import Operation, OutgoingCall, Repeatable, SharegramCaller
from safevideo_common.sharegram.retry import CallRetryPolicy, Retries, RetryBudget
from safevideo_testkit.virtual_time import in_virtual_time
from sharegram_simulator.client import SimulatorClient

Open = Callable[..., AbstractAsyncContextManager[SharegramClient]]


def paths(state: dict[str, list[dict[str, object]]]) -> list[object]:
    return [call["path"] for call in state["calls"]]


@pytest.mark.parametrize(("status", "tries"), [(500, 1), (501, 1), (502, 6), (503, 6), (504, 6)])
async def test_what_may_pass_is_tried_six_times_and_nothing_else_twice(
    simulator: SimulatorClient, sharegram: SharegramClient, status: int, tries: int
) -> None:
    await simulator.put("/_sim/faults", {"mode": "errors", "status": status})
    with pytest.raises(SharegramUnavailable):
        await sharegram.performers(SharegramCaller.job())
    calls = (await simulator.state())["calls"]
    assert len(calls) == tries


async def test_each_try_is_signed_anew_and_a_write_keeps_its_key(
    simulator: SimulatorClient, sharegram: SharegramClient
) -> None:
    fault = {"mode": "down", "afterEffect": True, "paths": ["/v1/kyc/"]}
    await simulator.put("/_sim/faults", fault)
    with pytest.raises(SharegramUnavailable, match="ECONNRESET"):
        await sharegram.start_verification(SharegramCaller.job(), work="kyc:1", performer_id="sg_1", fields={})
    await simulator.put("/_sim/faults", {"mode": "ok"})
    started = await sharegram.start_verification(SharegramCaller.job(), work="kyc:1", performer_id="sg_1", fields={})
    state = await simulator.state()
    assert [each["verificationId"] for each in state["verifications"]] == [started.verification_id]
    assert len(state["calls"]) == 7
    assert {(call["idempotencyKey"], call["signatureOk"]) for call in state["calls"]} == {("key-0", True)}


@pytest.mark.parametrize(
    "fault",
    [
        {"mode": "down"},
        {"mode": "down", "afterEffect": True},
        {"mode": "cut", "afterEffect": True},
        {"mode": "errors", "status": 503},
        {"mode": "idle_closed"},
    ],
)
async def test_registration_is_sent_once_whatever_happens_also_after_kept_connections(
    simulator: SimulatorClient, sharegram: SharegramClient, fault: dict[str, object]
) -> None:
    await sharegram.performers(SharegramCaller.job())  # leaves a kept connection
    await simulator.put("/_sim/faults", fault)
    if fault["mode"] == "idle_closed":  # it goes over a connection of its own, so it does not even notice
        await sharegram.performers(SharegramCaller.job())
        await sharegram.register_webhook(SharegramCaller.api(), url="https://safevideo.example/hook")
    else:
        with pytest.raises(SharegramUnavailable):
            await sharegram.register_webhook(SharegramCaller.api(), url="https://safevideo.example/hook")
    assert paths(await simulator.state()).count("/v1/webhooks") == 1


async def test_connection_closed_while_idle_costs_one_retry_at_once(
    simulator: SimulatorClient, open_client: Open
) -> None:
    await simulator.put("/_sim/faults", {"mode": "idle_closed"})
    # A delay of an hour: only a retry without a delay can succeed.
    async with open_client(
        simulator.base_url, sharegram_initial_delay=3_600_000, sharegram_max_delay=3_600_000
    ) as client:
        for _ in range(3):
            await client.performers(SharegramCaller.job())
    statuses = [call["status"] for call in (await simulator.state())["calls"]]
    assert statuses == [200, None, 200, None, 200], "nothing below the retry layer has sent anything"


READ = operations.LIST_PERFORMERS
UNAVAILABLE = SharegramUnavailable(FailureReason.UNAVAILABLE, "503 Service Unavailable")


@dataclass
class Scripted:
    """A layer that fails as the script says, then succeeds."""

    script: list[CallError]
    times: list[float] = field(default_factory=list)

    async def send(self, call: OutgoingCall) -> object:
        self.times.append(asyncio.get_running_loop().time())
        if self.script:
            raise self.script.pop(0)
        return "answer"


def retries(below: Scripted, draws: Sequence[float] = (), policy: CallRetryPolicy | None = None) -> Retries:
    """Each draw is the share of the ceiling; 1.0 when they are used up."""
    rest = list(draws)

    def uniform(low: float, high: float) -> float:
        assert low == 0
        return high * (rest.pop(0) if rest else 1.0)

    metrics = SharegramMetrics(CollectorRegistry())
    return Retries(below, policy or CallRetryPolicy(), metrics, uniform=uniform)


def call_of(operation: Operation = READ, seconds: float = 1000) -> OutgoingCall:
    return OutgoingCall(operation, SharegramCaller.job(seconds=seconds), "/performers")


@in_virtual_time
async def test_delays_are_drawn_below_a_ceiling_that_doubles() -> None:
    below = Scripted([UNAVAILABLE] * 3)
    assert await retries(below, [0.5, 0.25, 0.5]).send(call_of()) == "answer"
    assert below.times == [0, 1, 2, 6]  # halves and a quarter of 2, 4 and 8


def test_ceilings_are_those_of_the_contract() -> None:
    assert [CallRetryPolicy().ceiling(retry) for retry in range(1, 8)] == [2, 4, 8, 16, 32, 60, 60]


@in_virtual_time
async def test_wait_over_five_seconds_gives_the_job_back_at_once() -> None:
    below = Scripted([UNAVAILABLE] * 9)
    with pytest.raises(RetryLater, match="503 Service Unavailable; the next try is due in 8 s") as raised:
        await retries(below).send(call_of())
    assert (below.times, raised.value.retry_after) == ([0, 2, 6], 8)


@in_virtual_time
async def test_retry_after_is_the_least_wait() -> None:
    below = Scripted([SharegramUnavailable(FailureReason.RATE_LIMITED, "429", retry_after=5)])
    await retries(below, [0.1]).send(call_of())
    assert below.times == [0, 5]


@in_virtual_time
async def test_wait_past_the_deadline_raises_the_failure() -> None:
    below = Scripted([UNAVAILABLE] * 9)
    with pytest.raises(SharegramUnavailable):
        await retries(below).send(call_of(seconds=5))
    assert below.times == [0, 2]


@in_virtual_time
async def test_write_without_a_key_is_never_repeated() -> None:
    for operation in operations.OPERATIONS:
        below = Scripted([UNAVAILABLE])
        if operation.repeatable is Repeatable.BY_NATURE:
            assert operation.method == "GET"
            await retries(below).send(call_of(operation))
            continue
        with pytest.raises(SharegramUnavailable):
            await retries(below).send(call_of(operation))
        assert len(below.times) == 1


@in_virtual_time
async def test_empty_rate_budget_is_waited_for_without_using_a_retry_also_by_a_call_that_is_sent_once() -> None:
    empty = SharegramUnavailable(FailureReason.BUDGET, "used up", retry_after=1)
    below = Scripted([empty] * 7)
    assert await retries(below).send(call_of(operations.REGISTER_WEBHOOK)) == "answer"
    assert below.times == [0, 1, 2, 3, 4, 5, 6, 7]


@in_virtual_time
async def test_at_most_three_of_few_calls_are_retried_at_once() -> None:
    below = Scripted([UNAVAILABLE] * 10)
    layer = retries(below, [0.5] * 10)
    results = await asyncio.gather(*(layer.send(call_of()) for _ in range(10)), return_exceptions=True)
    assert results.count("answer") == 3
    assert len(below.times) == 13


def test_a_tenth_of_many_calls_may_be_retried_at_once() -> None:
    budget = RetryBudget()
    budget.active_calls = 100
    assert [budget.acquire() for _ in range(11)] == [True] * 10 + [False]
    budget.release()
    assert budget.acquire()
