import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_example_environment_is_what_the_settings_say() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "tools" / "docs" / "env_example.py"], capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / ".env.example").read_text() == made, "run: make env-example"
