"""The health probe of Sharegram: `GET /health`, which needs no signature (contract, §11)."""

from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from safevideo_common.errors import ServiceUnavailable

HEALTH_SECONDS: Final = 5.0
"""For the whole question: connecting, asking, and the head of the answer."""


class SharegramUnavailable(ServiceUnavailable):
    """Sharegram does not answer, or says that it is not well. The message names no address."""


async def probe_sharegram(http: ClientSession, api_url: str) -> None:
    """Return when Sharegram's API at `api_url` says that it is well; raise `SharegramUnavailable` otherwise."""
    address = f"{api_url.rstrip('/')}/health"
    try:
        async with http.get(address, allow_redirects=False, timeout=ClientTimeout(total=HEALTH_SECONDS)) as answer:
            status = answer.status
    except TimeoutError:
        raise SharegramUnavailable(f"no answer within {HEALTH_SECONDS:g} s") from None
    except ClientError as error:
        raise SharegramUnavailable(f"no connection ({type(error).__name__})") from error
    if status != 200:
        raise SharegramUnavailable(f"answered {status}")
