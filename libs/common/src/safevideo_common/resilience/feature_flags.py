"""Feature flags: `feature:{name}:enabled` in database 0 of Redis (contract, §10). A check costs no I/O.

    redis-cli set "feature:kyc:enabled" "false" EX 3600

acts in every process within a second. A process keeps the last value that it has seen until that value's own expiry;
one that has seen none has the default. A value that cannot be read keeps the last one, and is logged.
"""

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from types import MappingProxyType
from typing import Final, NamedTuple

from structlog.typing import FilteringBoundLogger

from safevideo_common.errors import FeatureDisabled
from safevideo_common.resilience.backoff import jittered
from safevideo_common.resilience.fail_fast_redis import FailFastRedis, RedisUnavailable

FLAGS_DB: Final = 0
"""The database of Redis with the flags."""
POLL_SECONDS: Final = 0.5
SCAN_KEYS: Final = 500
"""Keys of a step of the search for unknown flags; each poll does one step."""
MAX_LOGGED: Final = 100
"""Unknown names that are remembered as logged."""

KYC: Final = "kyc"
SSO: Final = "sso"
PERFORMER_SYNC: Final = "performer_sync"
FLAGS: Final[Mapping[str, bool]] = MappingProxyType({KYC: True, SSO: True, PERFORMER_SYNC: True})
"""Every flag with its default. Another name in Redis is logged and has no effect."""

_TRUE: Final = frozenset({"true", "1", "on", "yes"})
_FALSE: Final = frozenset({"false", "0", "off", "no"})


class FlagValue(NamedTuple):
    """The value of a flag."""

    enabled: bool
    seconds_left: float | None
    """Until it expires; None if it does not."""
    is_default: bool


class FlagStore:
    """The flags in Redis. Each method is one round trip and raises `RedisUnavailable`."""

    def __init__(self, redis: FailFastRedis, flags: Mapping[str, bool] = FLAGS) -> None:
        self.flags: Final = flags
        self._redis = redis
        self._cursor = 0

    async def put(self, flag: str, *, enabled: bool, seconds: int | None) -> None:
        """Set a flag, for `seconds` or for good."""
        value = "true" if enabled else "false"
        await self._redis.call(lambda: self._redis.redis.set(_key(flag), value, ex=seconds))

    async def read(self) -> dict[str, FlagValue]:
        """Return the value of each flag; the default where Redis has none that can be read."""
        return {
            name: value or FlagValue(self.flags[name], None, True) for name, value in (await self.poll())[0].items()
        }

    async def poll(self) -> tuple[dict[str, FlagValue | None], set[str], set[str]]:
        """Return the value of each flag, the flags whose value cannot be read, and unknown names that were found."""
        names = list(self.flags)
        pipeline = self._redis.redis.pipeline(transaction=False)
        for name in names:
            _ = pipeline.get(_key(name))
            _ = pipeline.pttl(_key(name))
        _ = pipeline.scan(self._cursor, match=_key("*"), count=SCAN_KEYS)
        # A value of another type is an answer about this one key, not an outage.
        answers = await self._redis.call(lambda: pipeline.execute(raise_on_error=False))
        values, unreadable = dict[str, FlagValue | None](), set[str]()
        for name, raw, ttl in zip(names, answers[0:-1:2], answers[1:-1:2], strict=True):
            enabled = _parse(raw)
            if enabled is None and raw is not None:
                unreadable.add(name)
            seconds_left = ttl / 1000 if isinstance(ttl, int) and ttl >= 0 else None
            values[name] = None if enabled is None else FlagValue(enabled, seconds_left, is_default=False)
        return values, unreadable, self._unknown(answers[-1])

    def _unknown(self, scanned: object) -> set[str]:
        if not isinstance(scanned, list | tuple):
            return set()
        self._cursor, keys = scanned
        names = {key.decode(errors="replace").removeprefix("feature:").removesuffix(":enabled") for key in keys}
        return names - self.flags.keys()


class FeatureFlags:
    """The flags as this process knows them."""

    def __init__(
        self, store: FlagStore, logger: FilteringBoundLogger, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._store = store
        self._logger = logger
        self._clock = clock
        self._values: dict[str, tuple[bool, float | None]] = {}
        self._logged: set[str] = set()

    def is_enabled(self, flag: str) -> bool:
        """Return the value of a flag of `FLAGS`. Without I/O."""
        enabled, until = self._values.get(flag, (self._store.flags[flag], None))
        return enabled if until is None or self._clock() < until else self._store.flags[flag]

    def require(self, flag: str) -> None:
        """Raise `FeatureDisabled` if the flag is off."""
        if not self.is_enabled(flag):
            raise FeatureDisabled(f"The feature {flag} is switched off.")

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.poll()
            await asyncio.sleep(jittered(POLL_SECONDS))

    async def poll(self) -> None:
        """Take over the values in Redis. Without Redis each flag keeps its last value until that value's expiry."""
        try:
            values, unreadable, unknown = await self._store.poll()
        except RedisUnavailable:
            return
        self._log_once("Feature flag has a value that cannot be read, the last one stays", unreadable)
        self._log_once("Feature flag is unknown and has no effect", unknown)
        self._logged -= {name for name in self._logged if name in values and name not in unreadable}
        now = self._clock()
        for name in values.keys() - unreadable:
            before, value = self.is_enabled(name), values[name]
            if value is None:
                self._values.pop(name, None)
            else:
                until = None if value.seconds_left is None else now + value.seconds_left
                self._values[name] = (value.enabled, until)
            if self.is_enabled(name) is not before:
                self._logger.info("Feature flag changed", flag=name, enabled=not before)

    def _log_once(self, message: str, names: set[str]) -> None:
        for name in sorted(names - self._logged)[: MAX_LOGGED - len(self._logged)]:
            self._logged.add(name)
            self._logger.warning(message, flag=name[:64])


def _key(flag: str) -> str:
    return f"feature:{flag}:enabled"


def _parse(raw: object) -> bool | None:
    word = raw.decode(errors="replace").strip().lower() if isinstance(raw, bytes) else ""
    return True if word in _TRUE else False if word in _FALSE else None
