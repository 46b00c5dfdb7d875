"""`safevideo flags get|set|list`."""

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from safevideo_cli.environment import caller
from safevideo_cli.options import AsJson
from safevideo_cli.output import print_json, print_table
from safevideo_cli.redis_services import open_flags
from safevideo_common.protections.service import MAX_SECONDS
from safevideo_common.resilience.feature_flags import FlagValue

Flag = Annotated[str, typer.Argument(help="Such as kyc; `safevideo flags list` shows all.")]
Lifetime = Annotated[int | None, typer.Option(min=1, max=MAX_SECONDS, help="Seconds; without, it stays.")]

app = typer.Typer(no_args_is_help=True)


class Switch(StrEnum):
    """The value of a flag on the command line."""

    ON = "on"
    OFF = "off"
    TRUE = "true"
    FALSE = "false"


@app.command(name="list")
def list_flags(as_json: AsJson = False) -> None:
    """Show all flags."""
    _show(asyncio.run(_list()), as_json=as_json)


@app.command()
def get(flag: Flag, as_json: AsJson = False) -> None:
    """Show one flag."""
    _show({flag: asyncio.run(_get(flag))}, as_json=as_json)


@app.command(name="set")
def set_flag(flag: Flag, value: Switch, duration: Lifetime = None, as_json: AsJson = False) -> None:
    """Set a flag; every process has the value within a second."""
    enabled = value in {Switch.ON, Switch.TRUE}
    _show({flag: asyncio.run(_set(flag, duration, enabled=enabled))}, as_json=as_json)


async def _list() -> dict[str, FlagValue]:
    async with open_flags() as service:
        return await service.list()


async def _get(flag: str) -> FlagValue:
    async with open_flags() as service:
        return await service.get(flag)


async def _set(flag: str, duration: int | None, *, enabled: bool) -> FlagValue:
    async with open_flags() as service:
        return await service.set(flag, enabled=enabled, seconds=duration, caller=caller())


def _show(flags: dict[str, FlagValue], *, as_json: bool) -> None:
    if as_json:
        print_json({name: value._asdict() for name, value in flags.items()})
        return
    rows = [
        [name, _word(value), "" if value.seconds_left is None else f"{value.seconds_left:.0f}"]
        for name, value in flags.items()
    ]
    print_table(("flag", "value", "seconds left"), rows)


def _word(value: FlagValue) -> str:
    return ("on" if value.enabled else "off") + (" (default)" if value.is_default else "")
