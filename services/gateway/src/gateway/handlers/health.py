"""The state of the whole integration, from the states of its parts (contract, §6)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from typing import Final

from safevideo_common.errors import SafeVideoError

VITAL: Final = "database"
"""Without this part nothing is served; without any other, less is."""


class PartState(StrEnum):
    """The state of one part."""

    HEALTHY = "healthy"
    WARNING = "warning"
    """Nothing is broken, but someone may want to know: not configured, say."""
    UNHEALTHY = "unhealthy"


class Overall(StrEnum):
    """The state of the whole."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Finding:
    """What asking a part has shown. The message is public: no address, no secret."""

    state: PartState
    message: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part with a name, and the question to it. `ask` that raises, or takes over `seconds`, finds it unhealthy."""

    name: str
    seconds: float
    ask: Callable[[], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class Examined:
    """A part's name, what was found, and how many milliseconds that took."""

    name: str
    finding: Finding
    milliseconds: float


async def examine(parts: Sequence[Part]) -> list[Examined]:
    """Ask all parts, side by side. Never raises."""
    return await asyncio.gather(*(_examined(part) for part in parts))


def overall(parts: Sequence[Examined]) -> Overall:
    """Unhealthy without the vital part, degraded without another. A warning alone leaves the whole healthy."""
    broken = {part.name for part in parts if part.finding.state is PartState.UNHEALTHY}
    if VITAL in broken:
        return Overall.UNHEALTHY
    return Overall.DEGRADED if broken else Overall.HEALTHY


async def _examined(part: Part) -> Examined:
    started = perf_counter()
    finding = await _finding(part)
    return Examined(part.name, finding, (perf_counter() - started) * 1000)


async def _finding(part: Part) -> Finding:
    try:
        async with asyncio.timeout(part.seconds):
            return await part.ask()
    except SafeVideoError as error:
        reason = error.message
    except TimeoutError:
        reason = f"no answer within {part.seconds:g} s"
    except Exception as error:  # noqa: BLE001 - however a part fails, it has failed; the text could quote an address
        reason = f"no answer ({type(error).__name__})"
    return Finding(PartState.UNHEALTHY, reason)
