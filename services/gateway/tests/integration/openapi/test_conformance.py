"""Requests made from the OpenAPI document: the running gateway answers each of them as the document says.

`OPENAPI_EXAMPLES=100` sends that many requests to each operation, valid ones and as many invalid ones.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from pydantic import SecretStr
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

from gateway.settings import GatewaySettings
from safevideo_common.database.engine import Database
from safevideo_testkit.http import Api
from safevideo_testkit.kyc import kyc_settings, sign_in
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator

EXAMPLES: Final = int(os.environ.get("OPENAPI_EXAMPLES", "2"))
SEED: Final = 15
CHECKED: Final = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
SWITCHES: Final = ("/enable", "/disable", "/breakers/", "/fallback", "/flags/")
"""Operations that switch others off: they come last, and after them 503 is right."""
OF_SHAREGRAM: Final = {"SHAREGRAM_REJECTED"}
"""Codes of a 502 that says that Sharegram refused the address, the id or the like."""
SIMULATED: Final = SimulatorSettings(
    port=0,
    webhook_secret=SecretStr("a webhook secret"),
    api_key=SecretStr("an api key of this test"),
    secret_key=SecretStr("a secret key of this test"),
    seed=7,
)
Start = Callable[[GatewaySettings], AbstractAsyncContextManager[Api]]


@pytest.fixture
async def site(start: Start, settings: GatewaySettings, tmp_path: Path) -> AsyncIterator[Api]:
    """A gateway with everything configured, and no limits."""
    async with running_simulator(SIMULATED) as simulator:
        changes = {
            "sharegram_api_url": f"{simulator.base_url}/v1",
            "sharegram_api_key": SIMULATED.api_key,
            "sharegram_secret_key": SIMULATED.secret_key,
            "sharegram_issuer": simulator.base_url,
            "sharegram_webhook_secret": SIMULATED.webhook_secret,
            "rate_limit_sync": "100000/60",
        }
        merged = settings.model_dump() | kyc_settings(tmp_path / "documents") | changes
        async with start(GatewaySettings.model_validate(merged)) as api:
            yield api


def send_examples(operation: APIOperation[Any, Any, Any, Any], base_url: str, headers: Mapping[str, str]) -> None:
    """Send valid and invalid requests. Raises at the first answer that is not in the document, or is a failure."""
    checks: Any = CHECKS.get_by_names(list(CHECKED))
    is_switch = any(part in operation.path for part in SWITCHES)

    def send(case: "Case[Any]") -> None:
        answer = case.call(base_url=base_url, headers=dict(headers), allow_redirects=False)
        case.validate_response(answer, checks=checks)
        if answer.status_code >= 500 and not is_switch:
            assert answer.json()["error"]["code"] in OF_SHAREGRAM, (case.as_curl_command(), answer.text)

    for mode in GenerationMode:
        is_constant = not (list(operation.iter_parameters()) or len(operation.body))
        if mode is GenerationMode.NEGATIVE and is_constant:
            continue
        seeded = seed(SEED)(given(operation.as_strategy(generation_mode=mode))(send))
        hypothesis_settings(
            max_examples=1 if is_constant else EXAMPLES,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(seeded)()


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # inside schemathesis
async def test_every_answer_is_one_that_the_document_has(
    site: Api, admin: dict[str, str], settings: GatewaySettings, database: Database
) -> None:
    load_all_checks()
    person = await sign_in(site, database, settings.redis_url.get_secret_value())
    schema = schemathesis.openapi.from_dict((await site.get("/openapi.json")).json)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 50
    operations.sort(key=lambda each: any(part in each.path for part in SWITCHES))
    for operation in operations:
        roles = operation.definition.raw.get("x-roles", [])
        headers = admin if "admin" in roles or not roles else person.headers
        await asyncio.to_thread(send_examples, operation, site.base_url, headers if roles else {})
