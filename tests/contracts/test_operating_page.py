"""The tasks of `docs/operating.md` that are not typed under `make run`: what their commands name is there."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text()


def section(number: int) -> str:
    """Return a task of the page."""
    return next(each for each in PAGE.split("\n## ") if each.startswith(f"{number}. "))


def commands(number: int) -> list[str]:
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", section(number), re.DOTALL)
    return [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]


def typed(line: str) -> str:
    """Type a command in the folder of the project; return what it printed."""
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("line", [commands(1)[0], *commands(11), *commands(17)])
def test_make_knows_each_command_and_its_tests_exist(line: str) -> None:
    assert typed(line.replace("make ", "make --dry-run ", 1))
    assert [path for path in re.findall(r"[\w-]+/[\w./-]+", line) if not (ROOT / path).exists()] == []


def test_make_run_starts_what_the_tests_of_it_start() -> None:
    assert "-m safevideo_devstack.run" in typed("make --dry-run run")


def test_schema_of_a_change_event_is_found_by_the_command_of_the_page() -> None:
    (line,) = commands(15)
    found = typed(line)
    assert "displayName: " in found
    assert "#/components/schemas/PerformerChange" in found


def test_guarantees_are_where_the_page_says() -> None:
    pages = [ROOT / "docs" / name for name in re.findall(r"\]\(([\w-]+\.md)\)", section(16))]
    assert [each.name for each in pages] == ["consume-our-changes.md", "contract.md"]
    assert "## What you may rely on" in pages[0].read_text()
    assert "\nPromises:\n" in pages[1].read_text()
