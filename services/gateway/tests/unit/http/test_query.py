"""The `pagination` member of a list."""

import orjson
import pytest

from gateway.http.query import PageQuery


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
def test_page_response_counts_pages_from_one(
    page: int, limit: int, total: int, pages: int, next_: bool, previous: bool
) -> None:
    response = PageQuery(page=page, limit=limit).response(["an item"], total)
    assert isinstance(response.body, bytes)
    document = orjson.loads(response.body)
    assert (document["success"], document["data"]) == (True, ["an item"])
    assert document["pagination"] == {
        "currentPage": page,
        "itemsPerPage": limit,
        "totalItems": total,
        "totalPages": pages,
        "hasNextPage": next_,
        "hasPreviousPage": previous,
    }
