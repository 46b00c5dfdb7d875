"""The limit: an aiohttp server that reads a body and answers, and does nothing else."""

import sys

import uvloop
from aiohttp import web


async def receive(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=b'{"success":true}', content_type="application/json")


def main() -> None:
    app = web.Application()
    app.router.add_post("/webhooks/sharegram", receive)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main()
