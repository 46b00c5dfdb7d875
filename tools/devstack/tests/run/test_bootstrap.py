"""`make run` on a machine that lacks something: it prints what is missing and what to type."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import copy

BOOTSTRAP = Path(__file__).parents[2] / "bootstrap.py"
ROOT = BOOTSTRAP.parent.parent.parent

# Debian's python3 is like this until python3-venv is installed.
WITHOUT_ENSUREPIP = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "ensurepip" else find_spec(name, package)
"""


def test_bootstrap_names_the_package_when_python_has_no_venv(tmp_path: Path) -> None:
    checkout, site = _checkout(tmp_path / "checkout"), tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WITHOUT_ENSUREPIP)
    refused = _bootstrap(checkout, PYTHONPATH=str(site))
    assert refused.returncode == 1
    assert "lacks its module ensurepip" in refused.stderr
    assert f"apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in refused.stderr
    assert not (checkout / ".venv").exists()


def _checkout(folder: Path) -> Path:
    """Copy what the bootstrap script reads of a checkout to a folder where it may write."""
    for path in (ROOT / "constraints.txt", BOOTSTRAP, *ROOT.glob("*/*/pyproject.toml")):
        copied = folder / path.relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copy(path, copied)
    return folder


def _bootstrap(checkout: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(checkout / "tools" / "devstack" / "bootstrap.py")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
