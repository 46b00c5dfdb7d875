"""The order of first attempts: one webhook of each performer at a time, in the order in which they were queued."""

from collections import deque

from sharegram_simulator.delivery import Delivery


class Lanes:
    """A lane for each performer that has webhooks before their first try. The courier's queue limit bounds them all."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Delivery]] = {}

    def join(self, delivery: Delivery) -> bool:
        """Stand at the end of its lane; whether it is the head already and may go."""
        lane = self._lanes.setdefault(_name_of(delivery), deque())
        lane.append(delivery)
        return len(lane) == 1

    def leave(self, delivery: Delivery) -> Delivery | None:
        """The one that may go next. Only the head of a lane stands in it: a retry left it long ago and frees no one."""
        name = _name_of(delivery)
        lane = self._lanes.get(name)
        if lane is None or lane[0] is not delivery:
            return None
        lane.popleft()
        if lane:
            return lane[0]
        del self._lanes[name]
        return None


def _name_of(delivery: Delivery) -> str:
    return delivery.event.subject or f"event {delivery.number}"
