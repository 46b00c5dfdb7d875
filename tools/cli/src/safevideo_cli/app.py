"""All nouns of the command, and the one place where a failure becomes an exit code."""

import sys

import typer

from safevideo_cli import events, jobs, keys, migrate, topics, webhook
from safevideo_cli.replay import replay
from safevideo_common.errors import SafeVideoError, StartupError

# A traceback with the values of its variables would show keys and passwords.
app = typer.Typer(
    name="safevideo", help="Operate SafeVideo's integration services.", no_args_is_help=True,
    pretty_exceptions_enable=False,
)  # fmt: skip
app.add_typer(migrate.app, name="migrate")
app.add_typer(topics.app, name="topics")
app.add_typer(keys.app, name="keys")
app.add_typer(webhook.app, name="webhook")
app.add_typer(events.app, name="events")
app.add_typer(jobs.app, name="jobs")
app.command(name="replay")(replay)


@app.callback()
def safevideo() -> None:
    """Operate SafeVideo's integration services. Settings come from the environment, as for the services."""


def main() -> None:
    """Run the command line of this process."""
    try:
        app()
    except SafeVideoError as error:
        _fail(f"{error.code}: {error.message}")
    except StartupError as error:
        _fail(str(error))


def _fail(sentence: str) -> None:
    print(sentence, file=sys.stderr)
    sys.exit(1)
