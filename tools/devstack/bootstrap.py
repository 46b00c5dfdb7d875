"""Makes `.venv` from the pins of constraints.txt: the first step of each `make` target that runs Python.

It needs the standard library only and its syntax is that of Python 3.6, so that a Python which is too old gets a
sentence instead of a traceback. When nothing has changed it does nothing, within milliseconds.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
MADE_FROM = VENV / "made-from"
PINS = ROOT / "constraints.txt"
DISTRIBUTIONS = [
    "libs/common",
    "services/webhook-ingest",
    "services/kyc-worker",
    "services/sync-worker",
    "services/gateway",
    "tests/simulator",
    "tools/cli",
    "tools/devstack",
    "tools/testkit",
]

OLDEST = (3, 11)
NEWER = ["python3.14", "python3.13", "python3.12", "python3.11"]
LAST_LINES = 12

TOO_OLD = """\
Python 3.11 or newer is needed; this is {version} ({path}).
On Debian 12 or newer: apt-get install python3 python3-venv
Elsewhere install a newer Python; one that is not on the PATH is named like this: make run PYTHON=/path/to/python3.12"""
NO_VENV = """\
This Python ({path}) lacks its module {module}, which makes virtual environments.
On Debian or Ubuntu: apt-get install python{version}-venv
Elsewhere: the package of your system that completes Python {version}."""
NO_INSTALL = """\
The lines above are pip's last ones. If it reached no package index: check the network, name a proxy
(export https_proxy=http://host:port) or a mirror of yours (export PIP_INDEX_URL=…). Then type the same again."""


def main() -> None:
    """Make the virtual environment unless it is as the pins ask. Exits with 1 and says what is missing."""
    if sys.version_info < OLDEST:
        run_newer_python()
    expected = fingerprint()
    if is_made(expected):
        return
    with Path(__file__).open() as lock:
        wait_for(lock.fileno())
        if not is_made(expected):
            make_venv()
            install()
            MADE_FROM.write_text(expected)


def run_newer_python() -> None:
    """Start again with the newest Python on the PATH; exits with 1 when each is too old."""
    for found in filter(None, map(shutil.which, NEWER)):
        if subprocess.call([found, "-c", ""], stderr=subprocess.DEVNULL) == 0:  # a version manager's stub may fail
            os.execv(found, [found, *sys.argv])
    sys.exit(TOO_OLD.format(version="{}.{}".format(*sys.version_info), path=sys.executable))


def fingerprint() -> str:
    """Return a hash of all that the environment depends on. It depends on the path: a venv holds absolute paths."""
    digest = hashlib.sha256(repr((sys.version, sys.base_prefix, str(ROOT))).encode())
    for path in [PINS, Path(__file__)] + [ROOT / name / "pyproject.toml" for name in DISTRIBUTIONS]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_made(expected: str) -> bool:
    """Return whether an environment of this fingerprint was completed and still has its Python."""
    return MADE_FROM.is_file() and MADE_FROM.read_text() == expected and (VENV / "bin" / "python").exists()


def wait_for(lock: int) -> None:
    """Wait for the lock: two `make` at the same time must not make the same environment."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("Another make is installing into .venv; waiting for it …", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def make_venv() -> None:
    """Make an empty environment; replace one that is out of date or incomplete."""
    for module in ["venv", "ensurepip"]:
        if importlib.util.find_spec(module) is None:
            sys.exit(NO_VENV.format(path=sys.executable, module=module, version="{}.{}".format(*sys.version_info)))
    # An activated .venv must not be asked to make itself.
    python = sys.executable if sys.prefix == sys.base_prefix else os.path.realpath(sys.executable)
    shutil.rmtree(str(VENV), ignore_errors=True)
    step("Making .venv with Python {}.{}.{}".format(*sys.version_info), [python, "-m", "venv", str(VENV)])


def install() -> None:
    """Install the pins, each checked against its hash, then our own distributions, editable."""
    python = str(VENV / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--no-deps"]
    pins = sum("==" in line for line in PINS.read_text().splitlines())
    step(f"Installing {pins} pinned packages (65 MB)", [*pip, "--require-hashes", "-r", str(PINS)])
    editable = [argument for name in DISTRIBUTIONS for argument in ["-e", str(ROOT / name)]]
    step("Installing the distributions of this checkout", [*pip, "--no-build-isolation", *editable])


def step(title: str, command: "list[str]") -> None:
    """Run `command` without its output and print its time; on failure print its last lines and exit with 1."""
    print(title, end=" … ", flush=True)
    started = time.monotonic()
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        print("failed:\n")
        print("\n".join(done.stdout.decode(errors="replace").splitlines()[-LAST_LINES:]))
        sys.exit("\n" + NO_INSTALL)
    print(f"{time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
