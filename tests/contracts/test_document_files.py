"""A file of a document and its row are one fact: who deletes files, who removes rows, and neither without the other."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = [
    path
    for folder in ("libs", "services", "tools/cli")
    for path in (ROOT / folder).rglob("src/**/*.py")
    if "versions" not in path.parts
]
LIBRARY: Final = ROOT / "libs/common/src/safevideo_common/documents"
STORES: Final = {LIBRARY / "files.py", LIBRARY / "s3.py"}
ROWS: Final = LIBRARY / "store.py"
DELETER: Final = ROOT / "services/kyc-worker/src/kyc_worker/documents/deleter.py"
TRANSACTIONS: Final = {"transaction", "step", "begin"}
DELETES_OBJECTS: Final = {"delete_file", "delete_async", "unlink", "remove", "rmtree"}


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    """Return the calls of a method or function with this name."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and name in (getattr(node.func, "attr", None), getattr(node.func, "id", None))
    ]


def functions(tree: ast.AST) -> Iterator[ast.AsyncFunctionDef | ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
            yield node


def test_one_module_deletes_files() -> None:
    assert {path for path in SOURCES if calls(ast.parse(path.read_text()), "delete_file")} == {DELETER}


def test_no_port_of_files_has_another_method_that_deletes() -> None:
    for path in STORES:
        deleting = {
            each.name
            for each in functions(ast.parse(path.read_text()))
            if any(calls(each, name) for name in DELETES_OBJECTS) or "delete" in each.name
        }
        assert deleting - {"_write"} == {"delete_file"}, "`_write` takes back its own unfinished file"


def test_files_are_not_deleted_in_a_transaction() -> None:
    deleting = [each for each in functions(ast.parse(DELETER.read_text())) if calls(each, "delete_file")]
    names = {each.name for each in deleting}
    assert names == {"_delete_one"}
    for function in functions(ast.parse(DELETER.read_text())):
        assert "tx" not in {each.arg for each in function.args.args}
        for block in (node for node in ast.walk(function) if isinstance(node, ast.AsyncWith)):
            if any(calls(item.context_expr, name) for item in block.items for name in TRANSACTIONS):
                assert not any(calls(block, name) for name in (*names, "_delete", "delete_of")), function.name


def test_the_deleter_is_not_called_in_a_transaction() -> None:
    callers = [path for path in SOURCES if "documents.deleter" in path.read_text()]
    assert callers, "app.py at least"
    for path in callers:
        for block in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.AsyncWith)):
            if any(calls(item.context_expr, name) for item in block.items for name in TRANSACTIONS):
                assert not calls(block, "delete_of") + calls(block, "delete_due"), path


def test_one_module_removes_rows_and_each_time_lets_their_files_be_deleted() -> None:
    removing = {}
    for path in SOURCES:
        for function in functions(ast.parse(path.read_text())):
            tables = [ast.unparse(each) for each in calls(function, "delete")]
            if any("kyc_documents" in each for each in tables):
                removing[path, function.name] = bool(calls(function, "record"))
    assert removing == {(ROWS, "replace"): True, (ROWS, "remove_of_request"): True}
