"""The script of the breaker on a real Redis against the same rules in plain Python, decision by decision."""

import asyncio
from collections.abc import Awaitable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from redis.asyncio import Redis

from safevideo_common.cache.redis import open_redis
from safevideo_common.resilience.breaker.state import (
    BreakerPolicy,
    BreakerSnapshot,
    LocalBreakerState,
    ProbeOutcome,
    SharedBreakerState,
)
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_testkit.eventually import DEADLINE_SECONDS

POLICY = BreakerPolicy(failures=5, window_seconds=60, open_seconds=250, probes=2)
START = 1_800_000_000.0


class BreakerMachine(RuleBasedStateMachine):
    """Applies each operation to both, and compares what they answer."""

    runner: asyncio.Runner
    redis: Redis

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.number = 0
        self.epochs = [""]
        self.tokens = ["none"]
        self.model = self._new_model()
        fail_fast = FailFastRedis(self.redis, seconds=DEADLINE_SECONDS)
        self.shared = SharedBreakerState(
            fail_fast, "model", POLICY, jitter=float, token=self._token, now="tonumber(redis.call('GET', 'clock'))"
        )
        self._do(self.redis.flushdb())
        self._do(self.redis.set("clock", self.now))

    def _do(self, command: Awaitable[object]) -> None:
        async def awaited() -> None:
            await command

        self.runner.run(awaited())

    def _token(self) -> str:
        return f"epoch-{self.number}"

    def _new_model(self) -> LocalBreakerState:
        return LocalBreakerState(POLICY, clock=lambda: self.now, jitter=float, token=self._token)

    def _compare(self, actual: BreakerSnapshot, expected: BreakerSnapshot) -> None:
        assert actual._replace(signal="") == expected
        if actual.epoch != self.epochs[-1]:
            self.epochs.append(actual.epoch)
        self.number += 1

    @rule(
        process=st.sampled_from("abc"),
        back=st.sampled_from([1, 1, 1, 2]),
        successes=st.integers(0, 8),
        failures=st.integers(0, 6),
        known_open=st.sampled_from([0] * 19 + [20]),
    )
    def report(self, process: str, back: int, successes: int, failures: int, known_open: float) -> None:
        """Report for the current epoch, or for an earlier one."""
        epoch = self.epochs[max(0, len(self.epochs) - back)]
        actual = self.runner.run(self.shared.report(process, epoch, successes, failures, known_open=known_open))
        self._compare(actual, self.model.report(process, epoch, successes, failures, known_open=known_open))

    @rule(seconds=st.sampled_from([5, 40, 1000]))
    def acquire(self, seconds: float) -> None:
        token = f"token-{self.number}"
        self.tokens.append(token)
        granted, actual = self.runner.run(self.shared.acquire(token, seconds))
        granted_by_model, expected = self.model.acquire(token, seconds)
        assert granted == granted_by_model
        self._compare(actual, expected)

    @rule(back=st.integers(1, 4), outcome=st.sampled_from(["success", "failure", "release"]))
    def settle(self, back: int, outcome: ProbeOutcome) -> None:
        token = self.tokens[max(0, len(self.tokens) - back)]
        self._compare(self.runner.run(self.shared.settle(token, outcome)), self.model.settle(token, outcome))

    @rule(seconds=st.sampled_from([0.5, 3, 11, 100, 260]))
    def advance(self, seconds: float) -> None:
        self.now += seconds
        self._do(self.redis.set("clock", self.now))

    @precondition(lambda self: self.number % 9 == 8)
    @rule()
    def become_half_open(self) -> None:
        self.report("a", 1, 0, 5, 0)
        self.report("b", 1, 0, 5, 0)
        self.advance(260)
        self.acquire(40)
        self.acquire(40)

    @precondition(lambda self: self.number % 7 == 6)
    @rule(operation=st.sampled_from(["close", "reset", "read"]))
    def operate(self, operation: str) -> None:
        self._compare(self.runner.run(getattr(self.shared, operation)()), getattr(self.model, operation)())

    @precondition(lambda self: self.number % 23 == 22)
    @rule()
    def lose_the_state(self) -> None:
        self._do(self.redis.delete("breaker:{model}"))
        self.model = self._new_model()
        self.number += 1


@pytest.fixture
def machine(redis_url: str) -> Iterator[type[BreakerMachine]]:
    async def opened() -> Redis:
        stack = open_redis(redis_url, 3, seconds=DEADLINE_SECONDS)
        return await stack.__aenter__()

    with asyncio.Runner() as runner:
        redis = runner.run(opened())
        yield type("Machine", (BreakerMachine,), {"runner": runner, "redis": redis})
        runner.run(redis.aclose())


def test_script_decides_as_the_plain_python_model(machine: type[BreakerMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.reuse, Phase.generate),  # shrinking would take minutes of round trips
        ),
    )
