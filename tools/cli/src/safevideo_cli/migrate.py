"""`safevideo migrate` and `safevideo migrate status`."""

import asyncio

import typer

from safevideo_cli.database import database_url
from safevideo_cli.output import AsJson, people, print_json
from safevideo_common.database.migrate import SchemaState, schema_state
from safevideo_common.database.migrate import migrate as migrate_database

app = typer.Typer(help="Bring the database's schema up to this build.")


@app.callback(invoke_without_command=True)
def migrate(context: typer.Context, as_json: AsJson = False) -> None:
    """Run the migrations that the database lacks. It may be run again, and by several at once."""
    if context.invoked_subcommand is None:
        applied: list[str] = []

        def told(number: str, title: str) -> None:
            applied.append(number)
            if not as_json:
                people.print(f"{number}  {title}")

        before = asyncio.run(migrate_database(database_url(), told))
        _report(before, applied, as_json=as_json)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say where the schema stands, and change nothing."""
    state = asyncio.run(schema_state(database_url()))
    if as_json:
        print_json({"current": state.current, "head": state.head, "behind": state.is_behind})
    else:
        people.print(_sentence(state))


def _report(before: SchemaState, applied: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"before": before.current, "after": before.reached, "applied": applied})
    elif applied:
        people.print(f"The schema is at {before.reached} now.")
    else:
        people.print(f"The schema is at {before.reached}; there was nothing to do.")


def _sentence(state: SchemaState) -> str:
    if state.current is None:
        return f"The database is empty; this build needs {state.head}. Run: safevideo migrate"
    if state.is_behind:
        return f"The schema is at {state.current}; this build needs {state.head}. Run: safevideo migrate"
    return f"The schema is at {state.current}; this build needs {state.head}. There is nothing to do."
