"""`docs/kyc.md` draws the state machine that the code has."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_kyc_requests_is_what_the_code_says() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / "docs" / "kyc_page.py"], capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / "docs" / "kyc.md").read_text() == made, "run: make kyc-page"
