"""Several processes may write to one stdout, as instances under one supervisor do: no line tears another."""

import json
import os
import subprocess
import sys

WRITERS = 3
LINES = 2000
PROGRAM = """
import asyncio, sys
from safevideo_common.observability.log_sink import LogSink

async def main():
    sink = LogSink(None)
    for number in range(int(sys.argv[2])):
        sink.write({"level": "info", "writer": sys.argv[1], "number": number, "filling": "f" * (number % 500)})
    sink.close()

asyncio.run(main())  # in a loop lines are gathered and written together
"""


def test_lines_of_several_processes_are_not_interleaved() -> None:
    reading, writing = os.pipe()
    writers = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(writer), str(LINES)], stdout=writing)
        for writer in range(WRITERS)
    ]
    os.close(writing)
    with os.fdopen(reading) as lines:
        found = list(lines)
    assert [writer.wait() for writer in writers] == [0] * WRITERS
    numbers = [(line["writer"], line["number"]) for line in map(json.loads, found)]
    for writer in range(WRITERS):
        assert [number for name, number in numbers if name == str(writer)] == list(range(LINES))
