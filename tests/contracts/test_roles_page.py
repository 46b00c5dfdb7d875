"""`docs/roles.md` says which role may call what, as the endpoints declare it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_matrix_of_roles_is_what_the_endpoints_declare() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / "docs" / "roles_page.py"], capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / "docs" / "roles.md").read_text() == made, "run: make roles-page"
