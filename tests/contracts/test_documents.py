"""Documents that name something that is not there mislead at the worst moment."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from safevideo_common import errors
from safevideo_common.errors import SafeVideoError

ROOT = Path(__file__).parents[2]
PROMISED = {"webhook-register", "kyc-sync"}
"""Named by the contract for what is still to be built."""


def tracked_documents() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return (ROOT / name for name in listed.splitlines() if (ROOT / name).exists())


DOCUMENTS = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in tracked_documents()]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text())
    missing = [to for to in targets if "://" not in to and not (document.parent / to).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(), re.MULTILINE))
    assert named - targets - PROMISED == set()


def test_every_error_code_is_in_the_contract() -> None:
    contract = (ROOT / "docs" / "contract.md").read_text()
    codes = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SafeVideoError)}
    assert {code for code in codes if f"`{code}`" not in contract} == set()
