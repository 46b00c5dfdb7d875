"""Defects of a segment that its tests must detect."""

import os
from pathlib import Path

from safevideo_testkit.mutations import Mutation, assert_detected
from webhook_ingest.spool.directory import SpoolDirectory
from webhook_ingest.spool.segment import Segment


def _writes_without_fsync(self: Segment, data: bytes) -> None:
    os.pwrite(self._descriptor, data, self.end)


async def test_segment_without_fsync_is_detected(tmp_path: Path) -> None:
    async def append_fails_on_a_disk_that_cannot_sync() -> None:
        directory = SpoolDirectory.create(tmp_path)
        # /dev/null takes every write, and refuses fdatasync.
        segment = Segment(directory, Path("/dev/null"), os.open("/dev/null", os.O_RDWR), adopted=False)
        try:
            segment.append(b"record")
        except OSError:
            accepted = False
        else:
            accepted = True
        segment.close()
        directory.close()
        assert not accepted, "the event was acknowledged and is not on disk"

    mutation = Mutation("a spool without fsync", Segment, "_write", _writes_without_fsync)
    await assert_detected(mutation, append_fails_on_a_disk_that_cannot_sync)
