"""`python -m safevideo_devstack.run`: the program of `make run`, once the virtual environment is made."""

import asyncio
import errno
import os
import sys

import uvloop

from safevideo_common.errors import SafeVideoError, StartupError
from safevideo_common.supervisor import BackgroundTaskDied
from safevideo_devstack.run.app import run
from safevideo_devstack.run.config import Config, moved_ports, read_config, require_free
from safevideo_devstack.run.context import PARTNER_SECRETS, RunContext
from safevideo_devstack.run.state_files import Paths, PidRegistry, SecretStore, single_instance


def main() -> None:
    """Run until Ctrl-C, then exit with 0. Exits with 1 and says what to type when something is in the way."""
    try:
        config = read_config()
        paths = Paths(config.run_dir, config.stack)
        paths.make()
        with single_instance(paths.lock), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(_prepare(config, paths)))
    except StartupError as error:
        sys.exit(str(error))
    except SafeVideoError as error:
        sys.exit(f"{error.code}: {error.message}")
    except BackgroundTaskDied as error:
        sys.exit(f"{error}; see {paths.logs}")
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        sys.exit(f"A port was taken while this started ({error.strerror}). Type the same again; it names who has it.")


def _prepare(config: Config, paths: Paths) -> RunContext:
    """Return the context, after ending the processes of a killed run: they may have the ports."""
    paths.env.unlink(missing_ok=True)
    paths.rotate_large_logs()
    pids = PidRegistry(paths.pids, paths.processes)
    if orphans := pids.stop_orphans():
        _say(f"Ended the processes of an earlier run: {', '.join(orphans)}.")
    require_free(config.port_offset)
    external = {name: os.environ[name] for name in PARTNER_SECRETS if name in os.environ}
    secrets = SecretStore(paths.secrets, external)
    if differing := secrets.differing():
        _say(f"Taken from the environment, in place of {paths.secrets}: {', '.join(differing)}.")
    return RunContext(config.stack, paths, moved_ports(config.port_offset), secrets, pids, _say)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
