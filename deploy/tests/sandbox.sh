#!/bin/bash
# Run COMMAND in namespaces and cgroups of its own, for a container engine or a whole Kubernetes. Needs root on Linux.
#   sandbox.sh COMMAND...
# All that it starts ends with it. Its network leads nowhere, and it leaves no mount, firewall rule, or cgroup behind.
set -euo pipefail
if [ "${1:-}" = --inside ]; then
    shift
    controllers=$(sed -n 's/^[0-9]*:\([a-z_,=]*[a-z]\):.*/\1/p' /proc/self/cgroup)
    umount -R -l /sys/fs/cgroup
    mount -t sysfs sysfs /sys
    if [ -z "$controllers" ]; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
    else # version 1 alone: crun and runc refuse a tree that has both
        mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
        for controller in $controllers; do
            named=${controller#name=}
            mkdir "/sys/fs/cgroup/$named"
            [ "$named" = "$controller" ] || controller="none,$controller"
            mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$named"
        done
    fi
    mount -t tmpfs -o mode=755 tmpfs /run
    mount --make-rshared /
    ip link set lo up
    hostname sandbox
    exec "$@"
fi
made=()
while IFS=: read -r _ controllers path; do
    if [ -n "$controllers" ]; then parent=/sys/fs/cgroup/${controllers#name=}$path; else parent=/sys/fs/cgroup$path; fi
    [ -d "$parent" ] && { [ -n "$controllers" ] || [ -e "$parent/cgroup.controllers" ]; } || continue
    group=$parent/sandbox-$$
    mkdir "$group"
    made+=("$group")
    [ "$controllers" != cpuset ] || for name in cpus mems; do cat "$parent/cpuset.$name" > "$group/cpuset.$name"; done
done < /proc/self/cgroup
# Who is inside sees no process outside, and would take the folders of running tests in /tmp for those of dead ones.
TMPDIR=$(mktemp -d)
export TMPDIR
clean() { rm -rf "$TMPDIR"; for group in "${made[@]}"; do find "$group" -depth -type d -exec rmdir {} \; 2> /dev/null || true; done; }
trap clean EXIT
trap 'kill -KILL "$inner" 2> /dev/null' TERM INT # unshare ignores TERM; what it started is killed with it
(
    for group in "${made[@]}"; do echo "$BASHPID" > "$group/cgroup.procs"; done
    exec unshare --mount --propagation private --net --uts --ipc --cgroup --pid --fork --kill-child --mount-proc \
        "$0" --inside "$@"
) &
inner=$!
status=0
wait "$inner" || status=$?
while kill -0 "$inner" 2> /dev/null; do wait "$inner" || status=$?; done
sleep 0.2 # the kernel empties the cgroups
exit "$status"
