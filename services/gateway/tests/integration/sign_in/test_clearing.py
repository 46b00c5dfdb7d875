"""The operators' line that signs everyone out, as it is typed, whatever is stored and under way."""

import asyncio
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from safevideo_common.cache.redis import open_redis
from safevideo_testkit.http import Api
from safevideo_testkit.people import SSO, Browser, bearer, signed_in, token_of, unified_login
from sharegram_simulator.client import SimulatorClient

LINE = 'redis-cli -n 2 --scan --pattern "sso:*" | xargs redis-cli -n 2 del'
PERFORMER = "/api/v1/performers/1"
HOSTILE = ["'", '"', "`id`", "$(id)", "a b", "a\nb", "\\", "*", "-n 0", "sso:*", "é", "\x00", "'; FLUSHALL; '"]


@pytest.fixture
def redis_cli(tmp_path: Path, redis_url: str) -> Path:
    """A folder with a `redis-cli` for this test's Redis: `--scan --pattern` and `del`, as the real one has them."""
    address = urlsplit(redis_url)
    script = tmp_path / "bin" / "redis-cli"
    script.parent.mkdir()
    script.write_text(REDIS_CLI.format(host=address.hostname, port=address.port))
    script.chmod(0o755)
    return script.parent


REDIS_CLI = """#!/usr/bin/env python3
import socket, sys
assert sys.argv[1:3] == ["-n", "2"], sys.argv
def talk(stream, *words):
    stream.write(b"*%d\\r\\n" % len(words) + b"".join(b"$%d\\r\\n%s\\r\\n" % (len(w), w) for w in words))
    stream.flush()
    return read(stream)
def read(stream):
    line = stream.readline().rstrip()
    if line[:1] in b"+-:": return line[1:]
    if line[:1] == b"$": return stream.read(int(line[1:]) + 2)[:-2]
    return [read(stream) for _ in range(int(line[1:]))]
stream = socket.create_connection(("{host}", {port})).makefile("rwb")
talk(stream, b"SELECT", b"2")
if sys.argv[3] == "--scan":
    cursor = b"0"
    while True:
        cursor, keys = talk(stream, b"SCAN", cursor, b"MATCH", sys.argv[5].encode())
        for key in keys: sys.stdout.buffer.write(key + b"\\n")
        if cursor == b"0": break
else:
    print(talk(stream, b"DEL", *(word.encode() for word in sys.argv[4:])).decode())
"""


def type_the_line(redis_cli: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{redis_cli}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", LINE], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


async def test_line_signs_everyone_out_and_breaks_nothing(
    site: Api, simulator: SimulatorClient, browser: Browser, redis_cli: Path, redis_url: str
) -> None:
    people = [await signed_in(site, simulator, sub=f"sg {each}", email=None, sid=each) for each in HOSTILE]
    await browser.sign_in()
    for each in HOSTILE:
        await simulator.post("/_sim/logout", {"url": f"{site.base_url}{SSO}/backchannel-logout", "sid": each})
    under_way = await browser.begin()
    async with open_redis(redis_url, 0, seconds=5) as other_database:
        await other_database.set("performer:1", "x")

        done = await asyncio.to_thread(type_the_line, redis_cli)
        assert (done.returncode, done.stderr) == (0, "")
        async with open_redis(redis_url, 2, seconds=5) as redis:
            assert await all_keys(redis) == []
        assert await other_database.get("performer:1") == b"x"

    for data in people:
        assert (await site.get(PERFORMER, bearer(data))).code == "UNAUTHORIZED"
    assert (await browser.get(PERFORMER)).code == "UNAUTHORIZED"
    answer = await browser.get(await browser.approve(under_way, "sg_1"))
    assert (answer.status, answer.headers.get("Location")) == (401, None)  # the page, no loop
    assert (await browser.sign_in()).status == 302
    assert (await browser.get(PERFORMER)).status == 404


async def test_keys_have_no_character_that_a_shell_reads(
    site: Api, simulator: SimulatorClient, browser: Browser, redis_url: str
) -> None:
    for each in HOSTILE:
        await signed_in(site, simulator, sub=f"sg {each}", email=None, sid=each)
        await browser.get(f"{SSO}/callback?state=%27%22{each.encode().hex()}&code=x")
        await site.get(f"{SSO}/session/verify?sessionId=%27%22%20{each.encode().hex()}")
    await browser.begin()
    async with open_redis(redis_url, 2, seconds=5) as redis:
        keys = await all_keys(redis)
    assert keys
    allowed = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_-")
    assert [key for key in keys if not key.startswith(b"sso:") or set(key) - allowed] == []


async def test_sign_ins_while_the_line_runs_end_signed_in_or_out_but_not_broken(
    site: Api, simulator: SimulatorClient, redis_cli: Path
) -> None:
    token = await token_of(simulator)

    async def clear() -> None:
        for _ in range(5):
            assert (await asyncio.to_thread(type_the_line, redis_cli)).returncode == 0

    clearing = asyncio.create_task(clear())
    while not clearing.done():
        answer = await unified_login(site, token)
        assert answer.status == 200
        assert (await site.get(PERFORMER, bearer(answer.json["data"]))).status in {401, 404}
    await clearing


async def all_keys(redis: Redis) -> list[bytes]:
    return [key async for key in redis.scan_iter("*")]
