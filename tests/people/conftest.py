"""A world on real servers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.people_model.world import World, open_world


@pytest.fixture
async def world(
    migrated_mysql_database: str, redis_url: str, tmp_path: Path, log: FilteringBoundLogger
) -> AsyncIterator[World]:
    async with open_world(migrated_mysql_database, redis_url, tmp_path / "documents", log) as world:
        yield world
