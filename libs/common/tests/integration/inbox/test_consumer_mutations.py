"""Defects of a consumer that its tests must detect, on each stack."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from secrets import token_hex

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.kafka.assignment import Assignment, AssignmentClaim
from safevideo_common.broker.port import ALL_PARTITIONS, Broker, PartitionsLost, Producer, Subscription
from safevideo_common.broker.types import Message, Record, Topic, next_offsets
from safevideo_common.database.engine import Database
from safevideo_common.inbox.consume_loop import ConsumeLoop, LoopLiveness
from safevideo_common.inbox.processor import Decisions, LivePolicy, LoadedBatch, decide, decide_in_order
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.broker_helpers import DAY_MS
from safevideo_testkit.eventually import DEADLINE_SECONDS, eventually, running_task
from safevideo_testkit.harness.consumer import RecordingHandler
from safevideo_testkit.harness.processor import ProcessorHarness, SampleEvent, SampleState, sample_event
from safevideo_testkit.mutations import Mutation, assert_detected
from safevideo_testkit.stacks import StackUnderTest

Loop = ConsumeLoop[SampleEvent, SampleState]
Policy = LivePolicy[SampleEvent, SampleState]


async def redelivered_event_has_one_effect(harness: ProcessorHarness) -> None:
    performer = f"sg_{token_hex(4)}"
    for offset in (1, 2):
        await harness.process(sample_event(performer, "a", event_id=f"evt-{performer}", offset=offset))
    assert (await harness.words())[performer] == "a"


async def batch_whose_claim_has_ended_changes_nothing(harness: ProcessorHarness) -> None:
    """The process was frozen in its transaction, until another member owned its partitions."""
    assignment, performer = Assignment(), f"sg_{token_hex(4)}"

    async def lose_partitions(_: AsyncConnection) -> None:
        assignment.revoke()

    handler = harness.handler
    assert isinstance(handler, RecordingHandler)
    handler.after = lose_partitions
    with assignment.hold() as claim, suppress(PartitionsLost):
        await harness.processor.process([sample_event(performer, "a")], claim)
    assert performer not in await harness.words()


def decides_without_inbox(self: Policy, batch: LoadedBatch[SampleEvent, SampleState]) -> Decisions:
    handler = self.consumer.handler
    return decide_in_order(
        lambda each: decide(handler, batch.states, each),
        batch.parsed,
        set(batch.existing),
        batch.blocked_subjects,
        decide_again=True,
    )


def never_ends(_: AssignmentClaim) -> None:
    pass


@pytest.mark.parametrize(
    ("mutation", "scenario"),
    [
        (Mutation("no inbox check", LivePolicy, "decide", decides_without_inbox), redelivered_event_has_one_effect),
        (Mutation("no fence", AssignmentClaim, "check", never_ends), batch_whose_claim_has_ended_changes_nothing),
    ],
    ids=["no_inbox_check", "no_fence"],
)
async def test_defect_of_the_processor_is_detected(
    database: Database,
    log: FilteringBoundLogger,
    mutation: Mutation,
    scenario: Callable[[ProcessorHarness], Awaitable[None]],
) -> None:
    harness = ProcessorHarness(database, log, RecordingHandler())
    await assert_detected(mutation, lambda: scenario(harness))


class KilledConsumer:
    """A loop that is killed in the transaction of its batch, and one that starts at the committed offsets."""

    def __init__(self, harness: ProcessorHarness, subscription: Subscription, producer: Producer, topic: str) -> None:
        self._harness = harness
        self._subscription = subscription
        self._producer = producer
        self._topic = topic

    async def loses_no_event(self) -> None:
        handler = self._harness.handler
        assert isinstance(handler, RecordingHandler)
        performer, is_in_transaction = f"sg_{token_hex(4)}", asyncio.Event()

        async def stand_still(_: AsyncConnection) -> None:
            is_in_transaction.set()
            await asyncio.Event().wait()

        async def has_consumed_the_last() -> bool:
            return (await self._harness.words()).get(performer, "").endswith("last")

        handler.after = stand_still
        await self._publish(performer, "first")
        async with running_task(self._loop().run()):
            await asyncio.wait_for(is_in_transaction.wait(), 60)
        handler.after = RecordingHandler().after
        self._subscription.seek_to_committed()
        await self._publish(performer, "last")
        async with running_task(self._loop().run()):
            await eventually(has_consumed_the_last)
        assert (await self._harness.words())[performer] == "first last"

    async def _publish(self, performer: str, word: str) -> None:
        envelope, body, *_ = sample_event(performer, word)
        await self._producer.publish(Message(self._topic, performer.encode(), body, envelope.headers()))

    def _loop(self) -> Loop:
        consumer = self._harness.consumer
        liveness = LoopLiveness(lambda: 0.0)
        processor = self._harness.processor
        return ConsumeLoop(
            self._subscription, ALL_PARTITIONS, processor, 500, liveness, consumer.logger, consumer.metrics
        )


async def commits_first(self: Loop, records: Sequence[Record]) -> None:
    await self.subscription.commit(next_offsets(records))
    with self.subscription.processing() as claim:
        await self._process_batch(records, claim)


async def test_offset_that_is_committed_before_the_transaction_is_detected(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger
) -> None:
    topic = f"test-{token_hex(6)}"
    await broker.create_topics([Topic(topic, 1, DAY_MS)])
    async with (
        Database.open(stack.database_url) as database,
        broker.producer("test", acknowledged_within=DEADLINE_SECONDS) as producer,
        broker.subscribe(f"{topic}-group", [topic], "test") as subscription,
    ):
        harness = ProcessorHarness(database, log, RecordingHandler())
        consumer = KilledConsumer(harness, subscription, producer, topic)
        mutation = Mutation("offset before commit", ConsumeLoop, "_process", commits_first)
        await assert_detected(mutation, consumer.loses_no_event)
