"""`safevideo fallback on|off`."""

import asyncio

import typer

from safevideo_cli.breaker import BY_COMMAND, Duration, Reason
from safevideo_cli.environment import caller
from safevideo_cli.options import AsJson
from safevideo_cli.output import print_json, print_lines
from safevideo_cli.redis_services import open_protections
from safevideo_common.clock import format_timestamp
from safevideo_common.protections.store import SHAREGRAM, Action, Override

app = typer.Typer(no_args_is_help=True)


@app.command()
def on(duration: Duration = 3600, reason: Reason = BY_COMMAND, as_json: AsJson = False) -> None:
    """Let no call go out to Sharegram for a time; it ends by itself. Again: a new end."""
    _show(asyncio.run(_switch(enable=True, duration=duration, reason=reason)), as_json=as_json)


@app.command()
def off(reason: Reason = BY_COMMAND, as_json: AsJson = False) -> None:
    """Allow calls to Sharegram again."""
    _show(asyncio.run(_switch(enable=False, duration=0, reason=reason)), as_json=as_json)


async def _switch(*, enable: bool, duration: int, reason: str) -> Override:
    async with open_protections() as service:
        return await service.switch_fallback(SHAREGRAM, enable=enable, seconds=duration, reason=reason, caller=caller())


def _show(decided: Override, *, as_json: bool) -> None:
    is_on, until = decided.action is Action.ON, format_timestamp(decided.ends_at)
    if as_json:
        print_json({"provider": SHAREGRAM, "enabled": is_on, "until": until})
    else:
        print_lines(f"Fallback mode is on until {until}." if is_on else "Fallback mode is off.")
