"""`python -m safevideo_devstack.run`: what `make run` starts once the virtual environment is made."""

import asyncio
import errno
import sys

import uvloop

from safevideo_common.errors import SafeVideoError, StartupError
from safevideo_common.service import BackgroundTaskDied
from safevideo_devstack.run.app import run
from safevideo_devstack.run.config import Config, moved_ports, read_config, require_free
from safevideo_devstack.run.context import RunContext
from safevideo_devstack.run.state_files import Paths, PidRegistry, SecretStore, single_instance


def main() -> None:
    """Run until Ctrl-C, then exit with 0. Exits with 1 and says what to type when something is in the way."""
    try:
        choices = read_config()
        place = Paths(choices.run_dir, choices.stack)
        place.make()
        with single_instance(place.lock), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(_prepared(choices, place)))
    except StartupError as error:
        sys.exit(str(error))
    except SafeVideoError as error:
        sys.exit(f"{error.code}: {error.message}")
    except BackgroundTaskDied as error:
        sys.exit(f"{error}; see {place.logs}")
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        sys.exit(f"A port was taken while this started ({error.strerror}). Type the same again; it names who has it.")


def _prepared(choices: Config, place: Paths) -> RunContext:
    """What a killed run has left is ended first: it may have the ports."""
    place.env.unlink(missing_ok=True)
    place.set_large_logs_aside()
    roster = PidRegistry(place.pids, place.births)
    if left := roster.end_leftovers():
        _say(f"Ended what an earlier run had left: {', '.join(left)}.")
    require_free(choices.port_offset)
    ports = moved_ports(choices.port_offset)
    return RunContext(choices.stack, place, ports, SecretStore(place.secrets), roster, _say)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
