"""The numbers of a page."""

import pytest

from gateway.http.query import pagination


@pytest.mark.parametrize(
    ("page", "limit", "total", "pages", "next_", "previous"),
    [
        (1, 20, 0, 0, False, False),
        (1, 20, 20, 1, False, False),
        (1, 20, 21, 2, True, False),
        (2, 20, 21, 2, False, True),
        (9, 20, 21, 2, False, True),
    ],
)
def test_pages_are_counted_from_one(page: int, limit: int, total: int, pages: int, next_: bool, previous: bool) -> None:
    assert pagination(page, limit, total) == {
        "currentPage": page,
        "itemsPerPage": limit,
        "totalItems": total,
        "totalPages": pages,
        "hasNextPage": next_,
        "hasPreviousPage": previous,
    }
