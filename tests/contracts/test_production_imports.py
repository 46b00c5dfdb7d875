"""The services need no tools: their modules import without pytest, typer, rich, YAML, Alembic and Docker.

Nor do they need obstore, unless documents are in S3.
"""

import subprocess
import sys

TOOLS = ("alembic", "docker", "obstore", "pytest", "rich", "testcontainers", "typer", "yaml")
PACKAGES = ("safevideo_common", "webhook_ingest", "kyc_worker", "sync_worker", "gateway")
OF_EXTRAS = (
    "safevideo_common.database.migrate",
    "safevideo_common.database.migrations",
    "safevideo_common.documents.s3",
)
"""The modules of the extras `migrate`, which brings Alembic, and `s3`, which brings obstore."""

IMPORT_ALL = """
import sys
from importlib import import_module
from pkgutil import iter_modules

tools, packages, skipped = (words.split(",") for words in sys.argv[1:])
sys.modules |= dict.fromkeys(tools)  # an import of None fails

def import_all(name):
    if name in skipped:
        return
    print(name)
    for module in iter_modules(getattr(import_module(name), "__path__", [])):
        import_all(f"{name}.{module.name}")

for package in packages:
    import_all(package)
"""


def test_production_modules_import_without_tools() -> None:
    command = [sys.executable, "-W", "error", "-c", IMPORT_ALL, *map(",".join, (TOOLS, PACKAGES, OF_EXTRAS))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert {f"{package}.settings" for package in PACKAGES} <= set(result.stdout.split())
