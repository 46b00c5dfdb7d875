"""The generator of the manifests that repeat what the code or the alert rules say: `make manifests` runs it.

Arguments: the folder `deploy/kubernetes/components`. A test compares the files with the code.
"""

import sys
from pathlib import Path
from typing import Any, Final

import yaml

from safevideo_common.broker.types import MAX_RECORD_BYTES
from safevideo_common.events.topics import all_topics

ROOT: Final = Path(__file__).resolve().parents[2]
ALERTS: Final = ROOT / "deploy" / "observability" / "alerts.yml"
HEADING: Final = "# Written by `make manifests` from {}; change that.\n"


def manifests() -> dict[str, str]:
    """Return the text of each file by its path below `deploy/kubernetes/components`."""
    return {
        "monitoring/prometheus-rule.yaml": HEADING.format("deploy/observability/alerts.yml") + _dump(prometheus_rule()),
        "strimzi-topics/topics.yaml": HEADING.format("the list of topics in events/topics.py")
        + "---\n".join(map(_dump, kafka_topics())),
    }


def prometheus_rule() -> dict[str, Any]:
    """Return the alert rules as a resource of the Prometheus Operator."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "safevideo"},
        "spec": {"groups": groups},
    }


def kafka_topics() -> list[dict[str, Any]]:
    """Return a `KafkaTopic` for each topic. Deleting the resource deletes no topic."""
    return [
        {
            "apiVersion": "kafka.strimzi.io/v1",
            "kind": "KafkaTopic",
            "metadata": {
                "name": topic.name,
                "labels": {"strimzi.io/cluster": "kafka"},
                # Not managed: the Job `migrate` creates the topics, and deleting this resource deletes none.
                "annotations": {"strimzi.io/managed": "false"},
            },
            "spec": {
                "partitions": topic.partitions,
                "replicas": 3,
                "config": {
                    "retention.ms": topic.retention_ms,
                    "max.message.bytes": MAX_RECORD_BYTES,
                    "min.insync.replicas": 2,
                    "unclean.leader.election.enable": False,
                    "compression.type": "uncompressed",
                },
            },
        }
        for topic in all_topics()
    ]


def _dump(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=1000)


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1])
    for path, text in manifests().items():
        (folder / path).write_text(text)


if __name__ == "__main__":
    main()
