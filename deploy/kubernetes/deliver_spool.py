#!/usr/bin/env python3
"""Make a Job that delivers the spool of a pod of webhook-ingest that is gone: docs/runbooks/spool-orphaned.md.

kubectl get statefulset webhook-ingest -o json | deliver_spool.py NUMBER | kubectl apply -f -
"""

import json
import sys
from typing import Any

PROBES = ("startupProbe", "livenessProbe", "readinessProbe", "lifecycle", "ports")


def delivery_job(statefulset: dict[str, Any], number: int) -> dict[str, Any]:
    """Return the manifest: image, settings and rights of the pods, their command, and the claim of pod `number`."""
    name = f"deliver-spool-{number}"
    # Not the labels of the pods: a Service sends requests to those, and a budget counts them.
    labels = {"app.kubernetes.io/name": "deliver-spool", "app.kubernetes.io/part-of": "safevideo"}
    pod: dict[str, Any] = statefulset["spec"]["template"]["spec"]
    pod.pop("topologySpreadConstraints", None)
    (container,) = pod["containers"]
    for key in PROBES:
        container.pop(key, None)
    container["args"] = ["deliver-spool"]
    claim = {"claimName": f"spool-{statefulset['metadata']['name']}-{number}"}
    pod["volumes"] = [*pod.get("volumes", []), {"name": "spool", "persistentVolumeClaim": claim}]
    pod["restartPolicy"] = "OnFailure"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": statefulset["metadata"].get("namespace", "default"), "labels": labels},
        "spec": {
            "backoffLimit": 20,
            "ttlSecondsAfterFinished": 86400,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        sys.exit("usage: kubectl get statefulset webhook-ingest -o json | deliver_spool.py NUMBER | kubectl apply -f -")
    json.dump(delivery_job(json.load(sys.stdin), int(sys.argv[1])), sys.stdout, indent=1)
