"""A program for the tests of several processes: `python door_program.py COUNT HUNG_SECONDS`.

It needs no log and no database.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from safevideo_common.broker.port import Broker
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import report_startup_error
from safevideo_common.settings import CommonSettings, load_settings
from safevideo_common.web.app import base_app
from safevideo_common.web.bounds import BOUNDS, ServerBounds
from safevideo_common.web.health import exposition_of
from webhook_ingest.adapters.sibling_metrics import SiblingMetrics
from webhook_ingest.workers.running import run_workers
from webhook_ingest.workers.worker import Worker


def build(_: CommonSettings, _log: Broker, log: FilteringBoundLogger, worker: Worker | None) -> web.Application:
    registry = CollectorRegistry()
    asked = Counter("asked", "Questions.", ("who",), registry=registry)
    if worker is None:
        app = base_app(log, registry)
    else:
        siblings = SiblingMetrics(worker.number, worker.count, worker.folder, exposition_of(registry), log)
        app = base_app(log, registry, exposition=siblings.exposition)

        async def answering(_app: web.Application) -> AsyncIterator[None]:
            async with siblings.answering():
                yield

        app.cleanup_ctx.append(answering)

    async def who(_request: web.Request) -> web.Response:
        asked.labels("x").inc()
        return web.json_response({"number": worker.number if worker else 0, "pid": os.getpid(), "parent": os.getppid()})

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.2)
        return web.Response(body=await request.read())

    app.router.add_get("/who", who)
    app.router.add_post("/slow", slow)
    app[BOUNDS] = ServerBounds(reuse_port=worker is not None)
    return app


if __name__ == "__main__":
    with report_startup_error("door"):
        run_workers("door", load_settings(CommonSettings), int(sys.argv[1]), build, float(sys.argv[2]))
