#!/bin/bash
# Build Kubernetes (etcd, API server, controllers, scheduler, kubelet, kube-proxy, kubectl) as one program: FOLDER/kube.
#   kube/build.sh FOLDER
# It needs Go and its module proxy, no registry of images: 7 to 15 minutes on two cores, once. 190 MB stay.
set -euo pipefail
version=1.37.2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
[ ! -x "$out/kube" ] || exit 0
export CGO_ENABLED=0 GOFLAGS=-mod=mod
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/main.go" "$work"
cd "$work"
module=$(cd / && go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"Dir": "\(.*\)",/\1/p')
# Its go.mod replaces its libraries by folders beside itself. Each of them is published too, under v0.MINOR.PATCH.
{
    echo "module kube"
    grep -E '^(go|godebug) ' "$module/go.mod"
    echo "require k8s.io/kubernetes v$version"
    sed -n "s#^\s*\(k8s.io/[a-z0-9-]*\) => ./staging.*#replace \1 => \1 v0.${version#1.}#p" "$module/go.mod"
} > go.mod
go mod tidy
package=k8s.io/component-base/version
# Not optimised: a third less processor time to build, and the node has little to do.
GOGC=400 go build -trimpath -gcflags 'all=-N -l' -o "$out/kube.new" \
    -ldflags "-s -w -X $package.gitVersion=v$version -X $package.gitMajor=1 -X $package.gitMinor=${version:2:2}" .
mv "$out/kube.new" "$out/kube"
