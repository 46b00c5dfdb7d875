"""Sign-in with a certified provider: rotation of its key in mid-traffic, and all of it in a real browser."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, async_playwright
from pydantic import SecretStr

from gateway.settings import GatewaySettings
from safevideo_common.auth.authentication import CSRF_COOKIE, SESSION_COOKIE
from safevideo_devstack.backends.ports import free_port
from safevideo_testkit.certified_provider import CertifiedProvider, running_provider
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Api
from safevideo_testkit.people import SSO, Browser

PERFORMER = "/api/v1/performers/1"
LANDING = "/api/v1/performers/1?tab=kyc"
TABS = 10


@pytest.fixture
async def provider(node: str, identity_provider_modules: Path, port: int) -> AsyncIterator[CertifiedProvider]:
    async with running_provider(node, identity_provider_modules, f"http://127.0.0.1:{port}") as provider:
        yield provider


@pytest.fixture
def port() -> int:
    """The port of the gateway: the provider must know its address before it starts."""
    return free_port()


@pytest.fixture
async def site(
    start: Callable[[GatewaySettings], AbstractAsyncContextManager[Api]],
    settings: GatewaySettings,
    provider: CertifiedProvider,
    port: int,
) -> AsyncIterator[Api]:
    changes = {
        "port": port,
        "public_url": f"http://127.0.0.1:{port}",
        "jwt_secret": SecretStr("a secret of this test, long enough"),
        "sharegram_issuer": provider.issuer,
    }
    async with start(settings.model_copy(update=changes)) as api:
        yield api


async def sign_in(site: Api, provider: CertifiedProvider, name: str) -> Browser:
    browser = Browser(site, None)  # type: ignore[arg-type]  # it signs in at another provider than the simulator
    callback = await provider.approve(await browser.begin(), name)
    await browser.get(callback.raw_path_qs)
    return browser


async def is_signed_in(browser: Browser) -> bool:
    return SESSION_COOKIE in browser.cookies and (await browser.get(PERFORMER)).status == 404


async def test_key_is_rotated_in_mid_traffic_and_nobody_is_signed_out(site: Api, provider: CertifiedProvider) -> None:
    earlier = await sign_in(site, provider, "ada")
    assert await is_signed_in(earlier)
    begun = Browser(site, None)  # type: ignore[arg-type]
    address = await begun.begin()
    await provider.rotate_key()
    await begun.get((await provider.approve(address, "ada")).raw_path_qs)  # begun under the old key

    async def everybody_signs_in() -> bool:
        browsers = await asyncio.gather(*(sign_in(site, provider, "ada") for _ in range(3)))
        return all([await is_signed_in(each) for each in browsers])

    await eventually(everybody_signs_in, poll_seconds=0.5)  # within one cooldown of the keys
    assert await is_signed_in(earlier)


@asynccontextmanager
async def real_browser(chromium: str) -> AsyncIterator[BrowserContext]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield await browser.new_context()
        finally:
            await browser.close()


async def cookies_of(context: BrowserContext, site: Api) -> set[str]:
    return {str(each.get("name")) for each in await context.cookies(site.base_url)}


async def test_real_browser_signs_in_goes_back_reloads_opens_ten_tabs_and_is_signed_out_by_the_provider(
    site: Api, provider: CertifiedProvider, chromium: str
) -> None:
    login = f"{site.base_url}{SSO}/login?returnTo={LANDING}"

    async def status_of(page: Page, url: str) -> int:
        response = await page.goto(url)
        assert response is not None
        return response.status

    async with real_browser(chromium) as context:
        page = await context.new_page()
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        assert await status_of(page, site.base_url + PERFORMER) == 401
        await page.goto(login)
        await page.get_by_label("Name").fill("ada")
        await page.get_by_role("button").click()
        await page.wait_for_url(site.base_url + LANDING)
        assert {SESSION_COOKIE, CSRF_COOKIE} <= await cookies_of(context, site)
        assert await status_of(page, site.base_url + PERFORMER) == 404  # signed in, and there is no such performer

        (callback,) = [url for url in requested if url.startswith(f"{site.base_url}{SSO}/callback")]
        await page.goto(callback)  # as Back or Reload asks for it again
        assert page.url == site.base_url + LANDING
        await page.reload()
        assert page.url == site.base_url + LANDING
        await page.go_back()
        assert await status_of(page, site.base_url + PERFORMER) == 404

        await context.clear_cookies(name=SESSION_COOKIE)
        tabs = [await context.new_page() for _ in range(TABS)]
        await asyncio.gather(*(tab.goto(login) for tab in tabs))
        assert [tab.url for tab in tabs] == [site.base_url + LANDING] * TABS
        assert await status_of(page, site.base_url + PERFORMER) == 404
        assert {name for name in await cookies_of(context, site) if "signin" in name} == set()

        await page.goto(f"{provider.issuer}/session/end")
        await page.get_by_role("button", name="Yes").click()
        await page.wait_for_url(f"{provider.issuer}/session/end/success*")

        async def is_signed_out() -> bool:
            return await status_of(page, site.base_url + PERFORMER) == 401

        await eventually(is_signed_out, poll_seconds=0.1)
