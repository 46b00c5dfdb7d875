"""The state of the simulator, its history, and its current fault."""

from aiohttp import web

from sharegram_simulator.delivery import DeliveryLog
from sharegram_simulator.provider import Provider
from sharegram_simulator.web.answers import json_answer, read_json
from sharegram_simulator.web.calls import CallLog
from sharegram_simulator.web.faults import Fault, Faults
from sharegram_simulator.web.partner import Documents


class StateSteering:
    """`GET /_sim/state` and `PUT /_sim/faults`."""

    def __init__(
        self, provider: Provider, documents: Documents, deliveries: DeliveryLog, calls: CallLog, faults: Faults
    ) -> None:
        self._provider = provider
        self._documents = documents
        self._deliveries = deliveries
        self._calls = calls
        self._faults = faults

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/_sim/state", self.show), web.put("/_sim/faults", self.set_fault)]

    async def show(self, _: web.Request) -> web.Response:
        """Everything, oldest first."""
        state = {
            "performers": [performer.as_json() for performer in self._provider.performers.all()],
            "verifications": [verification.as_json() for verification in self._provider.verifications.all()],
            "documents": self._documents.count,
            "webhooks": [delivery.as_json() for delivery in self._deliveries.all()],
            "calls": [call.as_json() for call in self._calls.all()],
            "callsUnderWay": self._calls.under_way,
            "fault": self._faults.current.model_dump(by_alias=True),
        }
        return json_answer(state)

    async def set_fault(self, request: web.Request) -> web.Response:
        """Play this fault from the next call on."""
        self._faults.set(await read_json(request, Fault))
        return json_answer(self._faults.current.model_dump(by_alias=True))
