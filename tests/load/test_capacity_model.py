"""The capacity page says what the model computes, and the model what was measured."""

from pathlib import Path

import pytest
from capacity_model import POINTS, Point, rows

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.what)
def test_prediction_is_within_a_fifth_of_the_measured_figure(point: Point) -> None:
    assert abs(point.error) <= 0.2
    assert f"{point.measured:,}" in (DOCS / "performance.md").read_text(), "the figure was measured anew"


def test_the_page_has_the_rows_of_the_model() -> None:
    page = (DOCS / "capacity.md").read_text()
    assert [row for row in rows() if row not in page] == []
