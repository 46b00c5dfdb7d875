"""`safevideo breaker status|open|close|reset`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import typer

from safevideo_cli.environment import caller
from safevideo_cli.options import AsJson, check_sentence
from safevideo_cli.output import format_second, print_json, print_table
from safevideo_cli.redis_services import open_protections
from safevideo_common.protections.service import MAX_SECONDS, ProtectionService
from safevideo_common.protections.store import SHAREGRAM, Action, Override, breaker_key
from safevideo_common.resilience.breaker.breaker import state_of
from safevideo_common.resilience.breaker.state import BreakerSnapshot

Name = Annotated[str, typer.Argument(help="Such as sharegram.")]
Duration = Annotated[int, typer.Option(min=1, max=MAX_SECONDS, help="Seconds.")]


Reason = Annotated[str, typer.Option(callback=check_sentence, help="Kept with the decision, and in the audit log.")]
BY_COMMAND: Final = "by command"

app = typer.Typer(no_args_is_help=True)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the circuit breakers, and what an operator has decided about them."""
    _show(asyncio.run(_read()), as_json=as_json)


@app.command(name="open")
def open_breaker(
    name: Name = SHAREGRAM, duration: Duration = 3600, reason: Reason = BY_COMMAND, as_json: AsJson = False
) -> None:
    """Reject all calls for a time, whatever the dependency does."""
    _show(asyncio.run(_change(lambda service: service.open(name, duration, reason, caller()))), as_json=as_json)


@app.command()
def close(name: Name = SHAREGRAM, reason: Reason = BY_COMMAND, as_json: AsJson = False) -> None:
    """Close a breaker now; from then on it is automatic."""
    _show(asyncio.run(_change(lambda service: service.close(name, reason, caller()))), as_json=as_json)


@app.command()
def reset(name: Name = SHAREGRAM, reason: Reason = BY_COMMAND, as_json: AsJson = False) -> None:
    """Forget the counts of a breaker, and end what an operator decided."""
    _show(asyncio.run(_change(lambda service: service.reset(name, reason, caller()))), as_json=as_json)


Breakers = dict[str, tuple[BreakerSnapshot | None, Override | None]]


async def _read() -> Breakers:
    async with open_protections() as service:
        return await _read_from(service)


async def _change(change: Callable[[ProtectionService], Awaitable[Override]]) -> Breakers:
    async with open_protections() as service:
        await change(service)
        return await _read_from(service)


async def _read_from(service: ProtectionService) -> Breakers:
    decisions = await service.decisions()
    return {name: (shared, decisions.get(breaker_key(name))) for name, shared in (await service.read()).items()}


def _show(breakers: Breakers, *, as_json: bool) -> None:
    rows = [_row(name, snapshot, last) for name, (snapshot, last) in breakers.items()]
    columns = ("name", "state", "open seconds", "failures", "probes", "processes", "forced until", "by")
    if as_json:
        print_json({"breakers": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        print_table(columns, rows)


def _row(name: str, snapshot: BreakerSnapshot | None, last: Override | None) -> list[str]:
    forced = last is not None and last.action is Action.OPEN and last.seconds_left > 0
    state = "unknown: Redis does not answer" if snapshot is None else state_of(snapshot).value
    seconds = 0.0 if snapshot is None else snapshot.open_seconds or 0.0
    counts = (
        ["", "", ""] if snapshot is None else [str(snapshot.failures), str(snapshot.probes), str(snapshot.processes)]
    )
    by = [format_second(last.ends_at), f"{last.actor}: {last.reason}"] if last is not None and forced else ["", ""]
    return [name, "open" if forced else state, f"{seconds:.0f}", *counts, *by]
