"""`docs/kyc.md` and `docs/performers.md` draw the state machines that the code has."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["kyc", "performers"])
def test_page_of_a_state_machine_is_what_the_code_says(name: str) -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / "docs" / f"{name}_page.py"], capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / "docs" / f"{name}.md").read_text() == made, f"run: make {name}-page"
