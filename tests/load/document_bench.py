"""A 12-megapixel photo into 1920 by 1080: the converter of documents beside pyvips's thumbnail call, in one run.

Run it alone: `python tests/load/document_bench.py`; it needs no backends. The process of the converter is started
before each measurement, and both make a JPEG of quality 85. pyvips decodes in this process and on all cores.
"""

import asyncio
import io
import sys
import time
from collections.abc import Awaitable, Callable
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from statistics import median
from typing import Final, NamedTuple

import pyvips
from PIL import Image

from gateway.documents.converter import DocumentConverter

SIZE: Final = (4000, 3000)
BOX: Final = (1920, 1080)
ROUNDS: Final = 15
START_SECONDS: Final = 2.0
"""In these the next process of the converter starts, which would disturb both."""
TARGET: Final = 1.3


def photo(size: tuple[int, int] = SIZE) -> bytes:
    """Return a JPEG with as much detail as a photo of a document has: some 4 MB for 12 megapixels."""
    noise = Image.effect_noise((size[0] // 8, size[1] // 8), 90).resize(size, Image.Resampling.BICUBIC)
    grain = Image.effect_noise(size, 12)
    picture = Image.merge("RGB", (noise, Image.blend(noise, grain, 0.5), Image.blend(noise, grain, 0.3)))
    output = io.BytesIO()
    picture.save(output, "JPEG", quality=92)
    return output.getvalue()


def thumbnail(document: bytes) -> bytes:
    """Return what pyvips makes of a document by its own call."""
    image = pyvips.Image.thumbnail_buffer(document, BOX[0], height=BOX[1], size="down")
    content: bytes = image.jpegsave_buffer(Q=85, strip=True)
    return content


class Times(NamedTuple):
    """What a piece of work takes, in ms."""

    wall: float
    cpu: float


async def timed(work: Callable[[], Awaitable[object]]) -> Times:
    """Return the time of `work`, and the CPU time of this process and of its children that have ended."""
    began, cpu = time.perf_counter(), _cpu_seconds()
    await work()
    return Times((time.perf_counter() - began) * 1000, (_cpu_seconds() - cpu) * 1000)


def _cpu_seconds() -> float:
    return sum(used.ru_utime + used.ru_stime for used in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


async def measure(document: bytes) -> tuple[list[Times], list[Times]]:
    """Return the times of the converter and of pyvips, in turn. The start of a process is not among them."""

    async def by_pyvips() -> None:
        thumbnail(document)

    ours, theirs = [], []
    async with DocumentConverter.open() as converter:
        for _ in range(ROUNDS + 1):
            converter.warm()
            await asyncio.sleep(START_SECONDS)
            theirs.append(await timed(by_pyvips))
            ours.append(await timed(lambda: converter.convert(document)))
        converter.warm()
        await asyncio.sleep(START_SECONDS)
        tiny = await asyncio.to_thread(photo, (8, 8))
        starts = [(await timed(lambda: converter.convert(tiny))).cpu for _ in range(3)]
    return [each._replace(cpu=each.cpu - min(starts)) for each in ours[1:]], theirs[1:]


def main() -> None:
    """Print both medians and their ratio."""
    document = photo()
    ours, theirs = asyncio.run(measure(document))
    for kind in Times._fields:
        ratio = median(getattr(a, kind) / getattr(b, kind) for a, b in zip(ours, theirs, strict=True))
        ms = [median(getattr(each, kind) for each in of) for of in (ours, theirs)]
        sys.stdout.write(f"{kind}: converter {ms[0]:.0f} ms, pyvips {ms[1]:.0f} ms, ratio {ratio:.2f}\n")
    sys.stdout.write(f"{len(document) / 1e6:.1f} MB, {SIZE[0]}x{SIZE[1]}; the target: at most {TARGET} of the time\n")


if __name__ == "__main__":
    main()
