"""Twenty processes that call one dependency through one breaker: `breaker_processes.py REDIS_URL PORT NUMBER`.

The process is forked after its imports, which cost more than everything else. Each child calls without a pause until
it is killed. It prints nothing: the dependency counts what reaches it.
"""

import asyncio
import os
import sys

import structlog

from safevideo_common.cache.redis import open_redis
from safevideo_common.errors import CircuitBreakerOpen
from safevideo_common.resilience.breaker.breaker import CircuitBreaker
from safevideo_common.resilience.breaker.state import BreakerPolicy, SharedBreakerState
from safevideo_common.resilience.fail_fast_redis import FailFastRedis
from safevideo_common.tasks import running_task

POLICY = BreakerPolicy(open_seconds=2, probes=3)
CALL_SECONDS = 6.0
CALL_PAUSE_SECONDS = 0.1


async def call(breaker: CircuitBreaker, port: int) -> None:
    try:
        permit = await breaker.acquire(CALL_SECONDS)
    except CircuitBreakerOpen:
        return
    try:
        async with asyncio.timeout(CALL_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"p" if permit.is_shared else b"c")  # a probe, or an ordinary call
            answer = await reader.read(1)
            writer.close()
    except OSError:
        answer = b""
    if answer == b"!":
        permit.succeed()
    else:
        permit.fail()


async def run(redis_url: str, port: int) -> None:
    async with open_redis(redis_url, 3, seconds=2) as redis:
        # One Redis with twenty clients on a busy machine; the deadline of 50 ms has a test of its own.
        shared = SharedBreakerState(FailFastRedis(redis, seconds=2), "sharegram", POLICY)
        breaker = CircuitBreaker("sharegram", shared, structlog.get_logger(), POLICY)
        await breaker.poll()
        async with running_task(breaker.run(), "breaker"):
            while True:
                await call(breaker, port)
                await asyncio.sleep(CALL_PAUSE_SECONDS)


def main() -> None:
    redis_url, port, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    children = []
    for _ in range(number):
        if not (child := os.fork()):
            asyncio.run(run(redis_url, port))
        children.append(child)
    print(*children, flush=True)
    sys.stdin.read()  # until the test ends


if __name__ == "__main__":
    main()
