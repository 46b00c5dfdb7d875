"""Print the third-party requirements of every distribution and of developers, for `make lock`."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = sorted(ROOT.glob("*/*/pyproject.toml"))


def requirements() -> Iterator[str]:
    """Yield each requirement of each distribution, its extras and the development group."""
    yield from tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    for path in PROJECTS:
        project = tomllib.loads(path.read_text())["project"]
        yield from project["dependencies"]
        for extra in project.get("optional-dependencies", {}).values():
            yield from extra


def name_of(requirement: str) -> str:
    """Return the distribution's name in its canonical form."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def main() -> None:
    """Print one requirement a line, without our own distributions."""
    ours = {tomllib.loads(path.read_text())["project"]["name"] for path in PROJECTS}
    sys.stdout.writelines(f"{each}\n" for each in sorted(set(requirements())) if name_of(each) not in ours)


if __name__ == "__main__":
    main()
