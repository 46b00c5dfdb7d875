"""What a terminal would obey, reverse or hide is shown as an escape, wherever a command prints it."""

import ast
import json
from pathlib import Path
from typing import Final

import pytest

import safevideo_cli
from safevideo_cli.output import print_error, print_json, print_json_line, print_lines, print_table, print_yaml
from safevideo_testkit.fuzz.ends import texts_of

HOSTILE: Final = "a\x1b[2J\x1b]52;c;cm0=\x07\x9b2Jb\u202ec\u2066d\u200be\rf\x7fg\U000e0041h\x00i\ufeffj\u2028k"
MEANT: Final = "Ada 愛 é 😀 \u3000full"


def is_safe(shown: str) -> bool:
    """Return whether every character is one that a terminal only shows."""
    return all(each == "\n" or each.isprintable() or each in "\u3000\u00a0" for each in shown)


def test_print_lines_shows_what_is_not_printable_and_keeps_one_line_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines(HOSTILE, MEANT, "first\nsecond")
    shown = capsys.readouterr().out
    assert is_safe(shown)
    lines = shown.splitlines()
    assert lines[1:] == [MEANT, "first\\nsecond"]
    assert "\\u001b[2J" in lines[0]
    assert "\\u202ec" in lines[0]


def test_print_table_has_no_false_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("id", "name"), [("1", HOSTILE), ("2", "x\n3  false"), ("4", MEANT)], sentence=None)
    shown = capsys.readouterr().out
    assert is_safe(shown)
    assert "x\\n3  false" in shown
    assert MEANT in shown


def test_print_table_shows_a_word_in_colons_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name",), [(":warning: [red]x[/red]",)])
    assert ":warning: [red]x[/red]" in capsys.readouterr().out


def test_print_json_is_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"name": HOSTILE, "whole": MEANT, HOSTILE: [HOSTILE]}
    for show in (print_json, print_json_line):
        show(document)
        shown = capsys.readouterr().out
        assert is_safe(shown)
        assert json.loads(shown) == document
        assert MEANT in shown
    assert len(shown.splitlines()) == 1


def test_print_yaml_has_one_fact_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_yaml({"name": HOSTILE, "notes": "x\nrole: admin", "inner": {"deep": [HOSTILE]}, "whole": MEANT})
    shown = capsys.readouterr().out
    assert is_safe(shown)
    assert "role: admin" not in shown.splitlines()
    assert MEANT in shown


def test_print_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(HOSTILE + "\n$ rm")
    shown = capsys.readouterr().err
    assert is_safe(shown)
    assert len(shown.splitlines()) == 1


def test_every_text_at_an_end_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    for text in texts_of(300):
        print_lines(text)
        print_json(text)
        print_table(("a",), [(text,)])
        print_yaml({"a": text})
        assert is_safe(capsys.readouterr().out)


def test_output_alone_prints() -> None:
    """Find every call that writes to a terminal: a noun that prints by itself would forget the escapes."""
    folder = Path(safevideo_cli.__path__[0])
    found = []
    for path in sorted(folder.glob("*.py")):
        if path.name == "output.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in {"print", "Console"} or name.endswith((".echo", "stdout.write", "stderr.write", ".secho")):
                    found.append(f"{path.name}:{node.lineno}")
    assert not found
