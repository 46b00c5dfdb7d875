"""The time that a circuit breaker adds to a call: ours, pybreaker, purgatory and interlock, in one run.

Run it alone: `python tests/load/breaker_bench.py`. It needs `redis-server`, and compares what is installed of
`pip install pybreaker purgatory-circuitbreaker interlock-cb`. Each call awaits a function that does nothing; the time
of that call without a breaker is subtracted. Ours shares its state through Redis, as pybreaker does with its storage
there.
"""

import asyncio
import statistics
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from measured import free_port, wait_until_listening
from redis import Redis

from safevideo_common.cache.redis import open_redis
from safevideo_common.errors import CircuitBreakerOpen
from safevideo_common.observability.logs import LogSink, build_logger
from safevideo_common.resilience.breaker.breaker import CircuitBreaker
from safevideo_common.resilience.breaker.state import BreakerPolicy, SharedBreakerState
from safevideo_common.resilience.fail_fast_redis import FailFastRedis

ROUNDS: Final = 15
CALLS: Final = 2_000
OPEN_SECONDS: Final = 300.0

Call = Callable[[], Awaitable[None]]
Contender = tuple[Call, Call]
"""A call while closed, and one while open, which swallows the rejection."""


async def nothing() -> None:
    """Stand for the dependency."""
    await asyncio.sleep(0)


def ours(redis: Any, logger: Any) -> Contender:
    """Our breaker. Its reports to Redis are a task of the process, which is no part of a call."""

    def breaker() -> CircuitBreaker:
        return CircuitBreaker("bench", SharedBreakerState(redis, "bench", BreakerPolicy()), logger, BreakerPolicy())

    closed, opened = breaker(), breaker()
    opened.force_open(OPEN_SECONDS)

    async def call(through: CircuitBreaker) -> None:
        with suppress(CircuitBreakerOpen):
            permit = await through.acquire(5.0)
            await nothing()
            permit.succeed()

    return lambda: call(closed), lambda: call(opened)


def of_pybreaker(storage: Callable[[], Any] | None) -> Contender:
    """Use `calling()`: its decorators never trip on a coroutine."""
    pybreaker = import_module("pybreaker")

    def breaker() -> Any:
        state = {"state_storage": storage()} if storage else {}
        return pybreaker.CircuitBreaker(fail_max=5, reset_timeout=OPEN_SECONDS, **state)

    closed, opened = breaker(), breaker()

    async def call(through: Any) -> None:
        with suppress(pybreaker.CircuitBreakerError), through.calling():
            await nothing()

    if storage is None:  # with a shared storage, the open one would open the closed one too
        opened.open()
    return lambda: call(closed), lambda: call(opened)


def of_purgatory() -> Contender:
    """Get the breaker once a call, as its documentation does."""
    purgatory = import_module("purgatory")
    errors = import_module("purgatory.domain.model")
    factory = purgatory.AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=OPEN_SECONDS)

    async def call(name: str) -> None:
        with suppress(errors.OpenedState):
            async with await factory.get_breaker(name):
                await nothing()

    async def opened() -> None:
        breaker = await factory.get_breaker("opened")
        if breaker.context.state != "opened":
            for _ in range(5):
                with suppress(ZeroDivisionError):
                    async with await factory.get_breaker("opened"):
                        raise ZeroDivisionError
        await call("opened")

    return lambda: call("closed"), opened


def of_interlock() -> Contender:
    """Use a breaker of one process."""
    interlock = import_module("interlock")

    def breaker(name: str) -> Any:
        return interlock.CircuitBreaker(name=name, config=interlock.Config())

    closed, opened = breaker("closed"), breaker("opened")
    opened.force_open()

    async def call(through: Any) -> None:
        with suppress(interlock.CircuitOpenError):
            async with through:
                await nothing()

    return lambda: call(closed), lambda: call(opened)


async def microseconds(call: Call) -> float:
    """Return the time of one call, as the mean of a round."""
    started = perf_counter()
    for _ in range(CALLS):
        await call()
    return (perf_counter() - started) / CALLS * 1e6


async def measure(port: int) -> None:
    """Print a line a breaker: the median of the rounds, in which all take turns."""
    url = f"redis://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        logger = build_logger("bench", LogSink(Path(folder), stdout=False))
        async with open_redis(url, 3) as redis:
            shared = FailFastRedis(redis)
            contenders: dict[str, Contender] = {"ours, state in Redis": ours(shared, logger)}
            with suppress(ImportError):
                contenders["pybreaker, in memory"] = of_pybreaker(None)
                storage = import_module("pybreaker").CircuitRedisStorage
                contenders["pybreaker, state in Redis"] = of_pybreaker(lambda: storage("closed", Redis.from_url(url)))
            with suppress(ImportError):
                contenders["purgatory, in memory"] = of_purgatory()
            with suppress(ImportError):
                contenders["interlock, in memory"] = of_interlock()
            bare: list[float] = []
            rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
            for _ in range(ROUNDS):
                bare.append(await microseconds(nothing))
                for name, (closed, opened) in contenders.items():
                    rounds[name].append((await microseconds(closed), await microseconds(opened)))
    base = statistics.median(bare)
    print(f"a call without a breaker: {base:.2f} µs")
    for name, measured in rounds.items():
        closed_us, opened_us = (statistics.median(each[index] for each in measured) for index in range(2))
        print(f"{name}: closed {closed_us - base:+.2f} µs a call, rejected while open {opened_us:.2f} µs")


def main() -> None:
    """Start Redis and measure."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        redis = subprocess.Popen(
            ["redis-server", "--port", str(port), "--save", "", "--dir", folder], stdout=subprocess.DEVNULL
        )
        try:
            wait_until_listening(port)
            asyncio.run(measure(port))
        finally:
            redis.terminate()
            redis.wait()


if __name__ == "__main__":
    main()
