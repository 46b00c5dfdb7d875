"""A gateway that takes KYC requests, and performers who are signed in to it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from safevideo_common.auth.api_keys import Role
from safevideo_common.database.engine import Database
from safevideo_testkit.http import Api
from safevideo_testkit.kyc import KycClient, kyc_settings, sign_in


@pytest.fixture
def upload_dir(tmp_path: Path) -> Path:
    return tmp_path / "documents"


@pytest.fixture
async def site(
    start: Callable[[GatewaySettings], AbstractAsyncContextManager[Api]], settings: GatewaySettings, upload_dir: Path
) -> AsyncIterator[Api]:
    """A gateway that stores documents."""
    async with start(GatewaySettings.model_validate(settings.model_dump() | kyc_settings(upload_dir))) as api:
        yield api


@pytest.fixture
def performer(site: Api, settings: GatewaySettings, database: Database) -> Callable[[str], Awaitable[KycClient]]:
    """Sign a performer in."""
    return lambda sharegram_id: sign_in(site, database, settings.redis_url.get_secret_value(), sharegram_id)


@pytest.fixture
async def ada(performer: Callable[[str], Awaitable[KycClient]]) -> KycClient:
    return await performer("sg_ada")


@pytest.fixture
async def reviewer(site: Api, admin: dict[str, str]) -> KycClient:
    return KycClient(site, admin)


@pytest.fixture
async def moderator(site: Api, key: Callable[[Role], Awaitable[dict[str, str]]]) -> KycClient:
    return KycClient(site, await key(Role.MODERATOR))
