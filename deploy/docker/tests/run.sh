#!/bin/bash
# Build the images and run images.py on them: `make images-test`. Root on Debian, no image registry.
set -euo pipefail
cd "$(dirname "$0")/../../.."
for program in buildah podman mmdebstrap; do
    command -v $program > /dev/null || {
        echo "$program is missing. On Debian: apt-get install --no-install-recommends buildah crun podman mmdebstrap" >&2
        exit 1
    }
done
export VERSION=${VERSION:-test}
LOCAL_BASE=1 deploy/docker/build.sh "$VERSION"
deploy/tests/sandbox.sh .venv/bin/python -m pytest -q deploy/docker/tests/images.py "$@"
