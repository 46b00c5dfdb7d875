"""Print the third-party requirements of distributions, one a line.

Without arguments: of every distribution and of developers, for `make lock`. With folders of distributions, such as
`services/gateway`: what a program of these needs at run time, for the images. These are names without versions, since
the pins of `constraints.txt` have them.
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Print the requirements, sorted, without our own distributions."""
    found = sorted(set(runtime_requirements(sys.argv[1:]) if sys.argv[1:] else all_requirements()))
    sys.stdout.writelines(f"{each}\n" for each in found if name_of(each) not in our_names())


def all_requirements() -> Iterator[str]:
    """Yield each requirement of each distribution, its extras and the development group."""
    yield from tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    for project in projects().values():
        yield from project["dependencies"]
        for extra in project.get("optional-dependencies", {}).values():
            yield from extra


def runtime_requirements(folders: Sequence[str]) -> Iterator[str]:
    """Yield what the distributions in `folders` need, and the extras that they ask of each other."""
    chosen = [projects()[folder] for folder in folders]
    for project in chosen:
        yield from map(without_version, project["dependencies"])
        for name, extra in project.get("optional-dependencies", {}).items():
            if any(f"{project['name']}[{name}]" in other["dependencies"] for other in chosen):
                yield from map(without_version, extra)


def without_version(requirement: str) -> str:
    """Return the name and the extras alone."""
    return re.split(r"[<>=!~;\s]", requirement, maxsplit=1)[0]


def projects() -> dict[str, dict[str, Any]]:
    """Return the `project` table of each distribution by its folder."""
    return {
        str(path.parent.relative_to(ROOT)): tomllib.loads(path.read_text())["project"]
        for path in sorted(ROOT.glob("*/*/pyproject.toml"))
    }


def our_names() -> set[str]:
    """Return the names of the distributions of this repository."""
    return {project["name"] for project in projects().values()}


def name_of(requirement: str) -> str:
    """Return the distribution's name in its canonical form."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


if __name__ == "__main__":
    main()
