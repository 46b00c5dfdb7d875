"""The nouns of the command, and the one place where a failure becomes an exit code."""

import os
import sys
from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Annotated, Final

import typer

from safevideo_cli.output import print_error, print_lines
from safevideo_common.errors import SafeVideoError, StartupError

NOUNS: Final[Mapping[str, str]] = {
    "events": "Inspect received events and redrive failed ones.",
    "performers": "Show why a performer has its values, and sync performers with Sharegram.",
    "kyc": "Fetch KYC results that did not come.",
    "jobs": "Inspect and control background jobs.",
    "replay": "Read a range of a topic again, beside the live flow.",
    "breaker": "Inspect, open, close and reset the circuit breakers.",
    "fallback": "Stop all calls to Sharegram for a time, and allow them again.",
    "flags": "Inspect and set feature flags.",
    "webhook": "Register our endpoint, manage the secrets that sign webhooks, and release refused webhooks.",
    "users": "Find accounts, give and take rights, merge duplicates, and keep the data of a person.",
    "sessions": "Sign people out.",
    "keys": "Manage the API keys of systems that call our API.",
    "trace": "Follow one request: its log lines, events, jobs and audit entries.",
    "health": "Show the health of the whole integration.",
    "audit": "Search the audit log: who did what, when, from where.",
    "ssl": "Check the certificates of Sharegram and of our own address.",
    "changes": "Follow what other systems are told of, as it is published.",
    "topics": "Check and create the topics in Kafka.",
    "migrate": "Bring the database's schema up to this build.",
}
"""Each is a module with an `app`. The text is the line of `safevideo --help`."""


def main() -> None:
    """Run the command line of this process."""
    try:
        build_app(_requested_nouns())()
    except SafeVideoError as error:
        _fail(f"{error.code}: {error.message}")
    except StartupError as error:
        _fail(*str(error).split("\n"))  # our own lines: one for each wrong setting


def build_app(loaded: frozenset[str]) -> typer.Typer:
    """Return the command with the nouns in `loaded`; the others are there for the list of commands only."""
    # A traceback with the values of its variables would show keys and passwords.
    app = typer.Typer(name="safevideo", no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(safevideo)
    for noun, text in NOUNS.items():
        if noun in loaded:
            app.add_typer(import_module(f"safevideo_cli.{noun}").app, name=noun, help=text)
        else:
            app.command(noun, help=text)(_not_loaded)
    return app


def _print_version(is_requested: bool) -> None:
    if is_requested:
        print_lines(f"safevideo {metadata.version('safevideo-cli')}")
        raise typer.Exit


def safevideo(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Operate SafeVideo's integration services. Settings come from the environment, as for the services."""


def _requested_nouns() -> frozenset[str]:
    """Return the noun of this command line; all of them for the shell's completion."""
    if "_SAFEVIDEO_COMPLETE" in os.environ:
        return frozenset(NOUNS)
    return frozenset(word for word in sys.argv[1:] if not word.startswith("-")) & frozenset(NOUNS)


def _not_loaded() -> None:
    raise AssertionError("a noun of the command line is always loaded")


def _fail(*lines: str) -> None:
    print_error(*lines)
    sys.exit(1)
