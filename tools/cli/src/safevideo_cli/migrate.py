"""`safevideo migrate`, and its `status` and `wait`."""

import asyncio
import time
from typing import Annotated, Final

import typer

from safevideo_cli.environment import database_url
from safevideo_cli.options import AsJson
from safevideo_cli.output import print_error, print_json, print_lines
from safevideo_common.database.migrate import SchemaState, schema_state
from safevideo_common.database.migrate import migrate as migrate_database
from safevideo_common.errors import DatabaseUnavailable

POLL_SECONDS: Final = 1.0

app = typer.Typer()


@app.callback(invoke_without_command=True)
def migrate(context: typer.Context, as_json: AsJson = False) -> None:
    """Run the missing migrations. It may be repeated, and run by several at once."""
    if context.invoked_subcommand is None:
        applied: list[str] = []

        def report(number: str, title: str) -> None:
            applied.append(number)
            if not as_json:
                print_lines(f"{number}  {title}")

        before = asyncio.run(migrate_database(database_url(), report))
        if as_json:
            print_json({"before": before.current, "after": before.target, "applied": applied})
        elif applied:
            print_lines(f"The schema is at {before.target} now.")
        else:
            print_lines(f"The schema is at {before.target}; there was nothing to do.")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the schema's number, and change nothing."""
    state = asyncio.run(schema_state(database_url()))
    if as_json:
        print_json({"current": state.current, "head": state.head, "behind": state.is_behind})
    else:
        print_lines(_sentence(state))


@app.command()
def wait(seconds: Annotated[float, typer.Option(help="How long, at most.", min=0)] = 600.0) -> None:
    """Wait until the schema is at least that of this build: before a service starts, beside a migration."""
    asyncio.run(_wait(database_url(), seconds))


async def _wait(url: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            state = await schema_state(url)
            reason = _sentence(state)
            if not state.is_behind:
                print_lines(reason)
                return
        except DatabaseUnavailable as error:
            reason = str(error)
        if time.monotonic() > deadline:
            print_error(reason)
            raise typer.Exit(1)
        await asyncio.sleep(POLL_SECONDS)


def _sentence(state: SchemaState) -> str:
    if state.current is None:
        return f"The database is empty; this build needs {state.head}. Run: safevideo migrate"
    if state.is_behind:
        return f"The schema is at {state.current}; this build needs {state.head}. Run: safevideo migrate"
    return f"The schema is at {state.current}; this build needs {state.head}. There is nothing to do."
