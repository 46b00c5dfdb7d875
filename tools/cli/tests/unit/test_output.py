"""Tables of commands: as wide as the terminal, complete in a pipe."""

import re

import pytest

from safevideo_cli.output import print_table

COLUMNS = ("id", "event", "received (UTC)")
ROW = ("1", "evt_" + "0123456789" * 6, "2026-11-24 12:00:01", "OVERTAKEN: displayName by version 9, " * 3)


def show(*, wide: bool = False) -> None:
    print_table(COLUMNS, [ROW], sentence="reason", only_wide=("event",), wide=wide)


def test_table_in_a_pipe_has_every_column_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    show()
    shown = capsys.readouterr().out
    assert all(cell in shown for cell in ROW[:3])


@pytest.mark.parametrize("wide", [False, True])
def test_table_on_a_terminal_fits_it_unless_it_is_asked_to_be_wide(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, wide: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    show(wide=wide)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert any(len(line) > 60 for line in lines) is wide
    assert any("evt_" in line for line in lines) is wide
