"""The rules that every migration keeps (`migrations/__init__.py`)."""

import ast
from pathlib import Path

import pytest

from safevideo_common.database.schema import MIGRATIONS, head

FILES = sorted((MIGRATIONS / "versions").glob("[0-9]*.py"))


def assigned(tree: ast.Module) -> dict[str, object]:
    """The constants at the top of a migration."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def test_numbers_have_no_gap_and_the_last_is_the_head() -> None:
    assert [path.name[:4] for path in FILES] == [f"{number:04}" for number in range(1, len(FILES) + 1)]
    assert head() == FILES[-1].name[:4]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_migration_follows_the_one_before_and_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text())
    number = int(path.name[:4])
    assert assigned(tree) == {
        "revision": f"{number:04}",
        "down_revision": f"{number - 1:04}" if number > 1 else None,
    }
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_statement_of_a_migration_can_run_twice(path: Path) -> None:
    (upgrade,) = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
    for change in upgrade.body:
        assert isinstance(change, ast.Expr)
        assert isinstance(change.value, ast.Call)
        assert isinstance(change.value.func, ast.Name)
        assert change.value.func.id in {"create_table", "create_index", "add_column", "convert_rows"}, (
            "one of operations.py: look before they act"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_migration_changes_one_table(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = {"create_table": 0, "create_index": 1, "add_column": 0}
    tables = {
        ast.literal_eval(call.args[named[call.func.id]])
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in named
    }
    assert len(tables) == 1
