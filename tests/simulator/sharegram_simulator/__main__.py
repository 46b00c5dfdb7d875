"""Runs the simulator alone: `python -m sharegram_simulator`."""

import logging
import sys

from aiohttp import web
from pydantic import ValidationError

from sharegram_simulator.app import build_app
from sharegram_simulator.serving import SHUTDOWN_SECONDS, bound, tls_of
from sharegram_simulator.settings import EnvironmentSettings


def main() -> None:
    """Serve until a signal ends the process. Exits with 1 and the reason when it cannot start as configured."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = EnvironmentSettings.model_validate({})  # Nothing is given: all of it comes from the environment.
        with bound(settings) as (listening, known):
            # No access log: the addresses of a sign-in carry what must not be logged.
            web.run_app(
                build_app(known),
                sock=listening,
                ssl_context=tls_of(known),
                access_log=None,
                shutdown_timeout=SHUTDOWN_SECONDS,
            )
    except (ValidationError, OSError) as error:
        sys.exit(f"The simulator cannot start as configured.\n{error}")


if __name__ == "__main__":
    main()
