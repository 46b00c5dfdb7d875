"""The actions of operators: open, close and reset a breaker, switch fallback mode, set a flag.

Each is one transaction with its entry in the audit log. The processes learn of it by a signal in Redis, or from the
database within ten seconds.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock
from safevideo_common.database.engine import Database
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.errors import NotFound, ServiceUnavailable
from safevideo_common.protections import store
from safevideo_common.protections.store import Action, Override
from safevideo_common.resilience.breaker.state import BreakerSnapshot, SharedBreakerState
from safevideo_common.resilience.fail_fast_redis import RedisUnavailable
from safevideo_common.resilience.feature_flags import FLAGS, FlagStore, FlagValue

_AUDITED: Final[Mapping[Action, str]] = {
    Action.OPEN: "breaker.opened",
    Action.CLOSE: "breaker.closed",
    Action.RESET: "breaker.reset",
    Action.ON: "fallback.switched_on",
    Action.OFF: "fallback.switched_off",
}
MAX_SECONDS: Final = 30 * 86400


class BreakerNotFound(NotFound):
    """No breaker or provider has this name."""


class FlagNotFound(NotFound):
    """No flag has this name; `details.flags` lists them."""


class ProtectionService:
    """The actions of operators. Each raises `DatabaseUnavailable`, and works while Redis is unavailable."""

    def __init__(self, database: Database, breakers: Mapping[str, SharedBreakerState], clock: Clock) -> None:
        """`breakers` are the shared states by name. A provider of fallback mode has the name of its breaker."""
        self._database = database
        self._breakers = breakers
        self._clock = clock

    async def decisions(self) -> dict[str, Override]:
        """Return all decisions by name."""
        async with self._database.read_connection() as connection:
            return await store.find_all(connection)

    async def read(self) -> dict[str, BreakerSnapshot | None]:
        """Return the shared state of each breaker; None while Redis is unavailable."""
        return {name: await _or_none(shared) for name, shared in self._breakers.items()}

    async def open(self, breaker: str, seconds: int, reason: str, caller: Caller) -> Override:
        """Reject all calls for `seconds`, whatever the dependency does. Raises `BreakerNotFound`."""
        return await self._decide(breaker, store.breaker_key, Action.OPEN, seconds, reason, caller)

    async def close(self, breaker: str, reason: str, caller: Caller) -> Override:
        """Close a breaker now; from then on it is automatic. Raises `BreakerNotFound`."""
        decided = await self._decide(breaker, store.breaker_key, Action.CLOSE, None, reason, caller)
        with suppress(RedisUnavailable):
            await self._breakers[breaker].close()
        return decided

    async def reset(self, breaker: str, reason: str, caller: Caller) -> Override:
        """Forget the counts of a breaker, and end what an operator decided. Raises `BreakerNotFound`."""
        decided = await self._decide(breaker, store.breaker_key, Action.RESET, None, reason, caller)
        with suppress(RedisUnavailable):
            await self._breakers[breaker].reset()
        return decided

    async def switch_fallback(
        self, provider: str, *, enable: bool, seconds: int, reason: str, caller: Caller
    ) -> Override:
        """Switch fallback mode off, or on for `seconds`, which also changes its end. Raises `BreakerNotFound`."""
        action = Action.ON if enable else Action.OFF
        return await self._decide(provider, store.fallback_key, action, seconds if enable else None, reason, caller)

    async def signal(self, breaker: str) -> None:
        """Tell the processes that something of `breaker` has changed in the database. Does nothing without Redis."""
        with suppress(RedisUnavailable):
            await self._breakers[breaker].signal()

    async def _decide(
        self,
        name: str,
        key: Callable[[str], str],
        action: Action,
        seconds: int | None,
        reason: str,
        caller: Caller,
    ) -> Override:
        if name not in self._breakers:
            raise BreakerNotFound(f"No such name; there are: {', '.join(sorted(self._breakers))}.")

        async def attempt() -> Override:
            async with self._database.transaction() as tx:
                decided, is_extension = await store.put(
                    tx, key(name), action, seconds=seconds, actor=caller.name, reason=reason
                )
                audited = "fallback.extended" if is_extension and action is Action.ON else _AUDITED[action]
                details = {"name": name, "seconds": seconds, "reason": reason}
                await audit_store.record(tx, caller.entry(audited, self._clock, details))
                return decided

        decided = await retry_on_conflict(attempt)
        await self.signal(name)
        return decided


class FlagService:
    """Flags as operators set them. The values are only in Redis, as `redis-cli` sets them, too."""

    def __init__(self, database: Database, flags: FlagStore, clock: Clock) -> None:
        self._database = database
        self._flags = flags
        self._clock = clock

    async def list(self) -> dict[str, FlagValue]:
        """Return the values of all flags. Raises `ServiceUnavailable` without Redis."""
        try:
            return await self._flags.read()
        except RedisUnavailable:
            raise ServiceUnavailable("Redis does not answer: the flags keep their last values.") from None

    async def get(self, flag: str) -> FlagValue:
        """Return the value of a flag. Raises `FlagNotFound`, `ServiceUnavailable`."""
        _check(flag)
        return (await self.list())[flag]

    async def set(self, flag: str, *, enabled: bool, seconds: int | None, caller: Caller) -> FlagValue:
        """Set a flag, for `seconds` or until it is set again. Raises `FlagNotFound`, `ServiceUnavailable`.

        The entry of the audit log is written first: without Redis it is rolled back.
        """
        _check(flag)
        details = {"flag": flag, "enabled": enabled, "seconds": seconds}
        async with self._database.transaction() as tx:
            await audit_store.record(tx, caller.entry("flags.set", self._clock, details))
            try:
                await self._flags.put(flag, enabled=enabled, seconds=seconds)
            except RedisUnavailable:
                raise ServiceUnavailable("Redis does not answer: the flag was not set.") from None
        return FlagValue(enabled, None if seconds is None else float(seconds), is_default=False)


def _check(flag: str) -> None:
    if flag not in FLAGS:
        raise FlagNotFound("No such flag.", details={"flags": sorted(FLAGS)})


async def _or_none(shared: SharedBreakerState) -> BreakerSnapshot | None:
    try:
        return await shared.read()
    except RedisUnavailable:
        return None
