"""The commands of the runbooks, as an operator would copy them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUNBOOKS = Path(__file__).parents[4] / "docs" / "runbooks"
_BLOCK = re.compile(r"^```bash(| elsewhere)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """A line of a page. `is_for_elsewhere` says that it needs something that no test has."""

    page: str
    line: str
    is_for_elsewhere: bool

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def commands() -> list[Command]:
    """All of them, in the order of the pages."""
    return [command for page in sorted(RUNBOOKS.glob("*.md")) for command in _commands_of(page)]


def _commands_of(page: Path) -> Iterator[Command]:
    for mark, block in _BLOCK.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip():
                yield Command(page.name, line.strip(), bool(mark))
