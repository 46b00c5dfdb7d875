#!/bin/bash
# Build Kubernetes (once) and the images, and run cluster.py on them: `make kubernetes-test`. Root on Debian.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/safevideo
missing=()
for program in buildah podman mmdebstrap containerd runc nft go; do
    command -v $program > /dev/null || missing+=("$program")
done
[ ${#missing[@]} -eq 0 ] || {
    echo "Missing: ${missing[*]}. On Debian: apt-get install --no-install-recommends buildah crun podman mmdebstrap" \
        "containerd runc containernetworking-plugins iptables nftables golang" >&2
    exit 1
}
"$here/kube/build.sh" "$cache/kubernetes-1.37.2"

cd "$root"
LOCAL_BASE=1 deploy/docker/build.sh one
services=(webhook-ingest gateway kyc-worker sync-worker)
work=$(mktemp -d "${TMPDIR:-/tmp}/kubernetes-test-XXXXXX")
trap 'rm -rf "$work"' EXIT

# Version `two` is the same, but for one migration that the former release does not know.
versions=libs/common/src/safevideo_common/database/migrations/versions
newest=$(ls $versions | grep -o '^[0-9]\{4\}' | sort | tail -n 1)
cat > "$work/9999_next_release.py" << END
"""A column of the next release."""

from sqlalchemy import Column, Integer

from safevideo_common.database.migrations.operations import add_column

revision = "9999"
down_revision = "$newest"


def upgrade() -> None:
    add_column("performers", Column("next_release", Integer))
END
chmod 644 "$work/9999_next_release.py"
container=$(buildah from --pull-never localhost/safevideo/cli:one)
buildah copy --quiet "$container" "$work/9999_next_release.py" \
    "/opt/safevideo/lib/python3.11/site-packages/${versions#*/src/}/" > /dev/null
buildah commit --quiet --rm "$container" localhost/safevideo/cli:two > /dev/null
for name in "${services[@]}"; do buildah tag "localhost/safevideo/$name:one" "localhost/safevideo/$name:two"; done

buildah inspect --type image localhost/pause:1 > /dev/null 2>&1 || { # the process that holds the namespaces of a pod
    printf '#include <signal.h>\n#include <unistd.h>\n#include <sys/wait.h>
static void end(int n) { _exit(0); }
static void reap(int n) { while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGINT, end); signal(SIGTERM, end); signal(SIGCHLD, reap); for (;;) pause(); }\n' > "$work/pause.c"
    gcc -Os -static -s -o "$work/pause" "$work/pause.c"
    printf 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n' > "$work/Dockerfile"
    buildah bud --quiet --isolation chroot -t localhost/pause:1 "$work" > /dev/null
}
names=(localhost/pause:1)
for name in "${services[@]}" cli; do names+=("localhost/safevideo/$name:one" "localhost/safevideo/$name:two"); done
podman --events-backend file save --quiet --multi-image-archive -o "$work/images.tar" "${names[@]}" > /dev/null
IMAGES=$work/images.tar "$root/deploy/tests/sandbox.sh" "$here/node.sh" "$cache/kubernetes-1.37.2/kube" "$work/node" \
    "$root/.venv/bin/python" -m pytest -q -s -x --basetemp="$work/pytest" "$here/cluster.py" "$@"
