"""`safevideo health`: the health of the whole integration, as the gateway sees it."""

import asyncio

import typer
from aiohttp import ClientError, ClientSession, ClientTimeout

from safevideo_cli.options import AsJson
from safevideo_cli.output import print_json, print_lines, print_table
from safevideo_common.errors import StartupError
from safevideo_common.settings import ProcessSettings, load_settings

REQUEST_SECONDS = 10.0

app = typer.Typer()


class _Settings(ProcessSettings):
    safevideo_gateway_url: str = "http://127.0.0.1:3000"


@app.callback(invoke_without_command=True)
def health(as_json: AsJson = False) -> None:
    """Show each check. Exit code 1: the whole is unhealthy or degraded. Needs SAFEVIDEO_GATEWAY_URL, and no key."""
    report = asyncio.run(_report())
    if as_json:
        print_json(report)
    else:
        checks = report["checks"]
        assert isinstance(checks, dict)
        rows = ((name, each["status"], each["message"]) for name, each in checks.items())
        print_table(("check", "status"), rows, sentence="what it says")
        print_lines(f"The whole is {report['status']}.")
    if report["status"] != "healthy":
        raise typer.Exit(1)


async def _report() -> dict[str, object]:
    url = load_settings(_Settings).safevideo_gateway_url.rstrip("/")
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=REQUEST_SECONDS)) as session,
            session.get(f"{url}/api/integration/health") as response,
        ):
            report: dict[str, object] = await response.json()
    except (ClientError, TimeoutError) as error:
        raise StartupError(f"The gateway at {url} does not answer: {error!r}.") from None
    return report
