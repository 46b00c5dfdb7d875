"""The audit log is append-only: one module writes it, nothing changes an entry, and only the retention deletes."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = [
    path
    for folder in ("libs", "services", "tools")
    for path in (ROOT / folder).rglob("src/**/*.py")
    if "versions" not in path.parts
]
STORE: Final = ROOT / "libs/common/src/safevideo_common/audit/store.py"
TABLES: Final = ROOT / "libs/common/src/safevideo_common/database/tables.py"
RETENTION: Final = ROOT / "services/gateway/src/gateway/audit/retention.py"


def names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (each.name for each in node.names)


def writes(function: ast.AsyncFunctionDef) -> set[str]:
    called = {
        node.func.id for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return called & {"insert", "update", "delete", "Upsert", "Bulk", "text"}


def test_one_module_knows_the_table() -> None:
    mention = [path for path in SOURCES if "audit_log" in path.read_text()]
    assert {path for path in mention if "audit_log" in names(path)} == {STORE, TABLES}


def test_the_store_inserts_and_deletes_and_changes_nothing() -> None:
    functions = [node for node in ast.parse(STORE.read_text()).body if isinstance(node, ast.AsyncFunctionDef)]
    assert {each.name: writes(each) for each in functions if writes(each)} == {
        "record": {"insert"},
        "delete_before": {"delete"},
    }
    assert "update" not in names(STORE)


def test_only_the_retention_deletes_entries() -> None:
    users = [path for path in SOURCES if "safevideo_common.audit" in path.read_text()]
    assert {path for path in users if "delete_before" in names(path)} == {RETENTION}
