#!/bin/bash
# Build the images safevideo/{webhook-ingest,kyc-worker,sync-worker,gateway,cli,simulator}.
#   deploy/docker/build.sh [VERSION]          the version is the tag; default: the commit
# It uses docker, or buildah where no docker daemon runs. PYTHON_IMAGE names another base image. LOCAL_BASE=1 makes the base
# image from Debian's packages with mmdebstrap, for a machine that reaches no image registry (root, buildah and mmdebstrap).
set -euo pipefail
cd "$(dirname "$0")/../.."
revision=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
version=${1:-$revision}
targets=(webhook-ingest kyc-worker sync-worker gateway cli simulator)
common=(-f deploy/docker/Dockerfile --build-arg "VERSION=$version" --build-arg "REVISION=$revision")

if docker info > /dev/null 2>&1; then
    [ -z "${PYTHON_IMAGE:-}" ] || common+=(--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE")
    for target in "${targets[@]}"; do
        docker build "${common[@]}" --target "$target" -t "safevideo/$target:$version" .
    done
    exit
fi
command -v buildah > /dev/null || {
    echo "Neither a docker daemon nor buildah is here. On Debian: apt-get install buildah crun mmdebstrap" >&2
    exit 1
}

make_base() {
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/safevideo/images
    mkdir -p "$cache"
    [ -e "$cache/base.tar" ] || {
        mmdebstrap --quiet --format=tar --mode=root --variant=minbase \
            --include=python3,python3-venv,python3-pip,ca-certificates,zlib1g \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' \
            --customize-hook='ln -s python3 "$1/usr/bin/python"' \
            bookworm "$cache/base.new"
        mv "$cache/base.new" "$cache/base.tar"
    }
    local container
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$cache/base.tar" / > /dev/null
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --env LANG=C.UTF-8 "$container"
    buildah commit --quiet --rm "$container" localhost/python:3.11-slim > /dev/null
}

options=()
if [ -n "${LOCAL_BASE:-}" ]; then
    buildah inspect --type image localhost/python:3.11-slim > /dev/null 2>&1 || make_base
    PYTHON_IMAGE=localhost/python:3.11-slim
    # The machine's own network and certificates: a package index may be known to this machine alone.
    options+=(--pull-never --isolation chroot --network host -v /etc/ssl/certs:/etc/ssl/certs:ro)
    for file in /etc/pip.conf; do [ ! -e "$file" ] || options+=(-v "$file:$file:ro"); done
    for name in PIP_INDEX_URL PIP_CERT; do [ -z "${!name:-}" ] || options+=(--env "$name"); done
fi
[ -z "${PYTHON_IMAGE:-}" ] || common+=(--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE")
for target in "${targets[@]}"; do
    echo "== $target"
    buildah bud --quiet --layers --format docker "${options[@]}" "${common[@]}" --target "$target" \
        -t "safevideo/$target:$version" . > /dev/null
done
buildah images --filter reference='*safevideo/*'
