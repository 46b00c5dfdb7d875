"""A client that reads an address every 20 ms, one request after the other, and prints the latencies.

`python steady_reads.py PORT PATH HEADERS SECONDS`: the headers as JSON. It imports little, so it starts at once.
"""

import http.client
import json
import sys
import time
from statistics import quantiles

PAUSE_SECONDS = 0.02


def main(port: str, path: str, headers: str, seconds: str) -> None:
    """Read, and print `RESULT {…}` with percentiles in ms."""
    connection, latencies = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30), []
    end = time.perf_counter() + float(seconds)
    while (began := time.perf_counter()) < end:
        connection.request("GET", path, headers=json.loads(headers))
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        latencies.append((time.perf_counter() - began) * 1000)
        time.sleep(PAUSE_SECONDS)
    cuts = quantiles(latencies, n=100)
    sys.stdout.write(f"RESULT {json.dumps({'p50': cuts[49], 'p99': cuts[98], 'reads': len(latencies)})}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
