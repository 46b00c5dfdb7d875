#!/bin/bash
# Start a Kubernetes of one node, run COMMAND with KUBECONFIG set, end with it. Run it by sandbox.sh: it mounts and routes.
#   sandbox.sh node.sh KUBE WORK COMMAND...
# KUBE is the program of kube/build.sh, WORK a new folder for state and logs, IMAGES (environment) archives to import.
set -euo pipefail
kube=$1 work=$2
shift 2
node=198.51.100.1 pods=198.18.0.0/16 services=198.19.0.0/16 # ranges of documentation and benchmarks: no way out
mkdir -p "$work"/{log,bin,cni,etcd,containerd}
cd "$work"
for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    ln -sf "$kube" "bin/$name"
done
export PATH=$work/bin:$PATH KUBECONFIG=$work/admin.conf
start() { "$@" > "log/$1.log" 2>&1 & }
await() { # WHAT SECONDS COMMAND...
    local what=$1 limit=$2
    shift 2
    for _ in $(seq $((limit * 10))); do
        ! "$@" > /dev/null 2>&1 || { echo "$SECONDS s: $what"; return; }
        sleep 0.1
    done
    echo "not within $limit s: $what" >&2
    tail -n 30 log/*.log >&2
    exit 1
}

# The node's address is on a link whose other end nobody answers.
ip link add node0 type veth peer name node1
ip address add $node/24 dev node0
ip link set node0 up
ip link set node1 up
ip route add default via 198.51.100.2 dev node0
echo 1 > /proc/sys/net/ipv4/ip_forward
for folder in /var/lib/cni /var/lib/kubelet /var/log/pods /var/log/containers; do
    mkdir -p $folder
    mount -t tmpfs tmpfs $folder
done
mount --make-rshared /

openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=sandbox -keyout key.pem -out cert.pem \
    -addext "subjectAltName=IP:$node,IP:198.19.0.1,IP:127.0.0.1,DNS:kubernetes.default.svc" 2> /dev/null
openssl genrsa -out sa.key 2048 2> /dev/null
: > tokens.csv
account() { # NAME USER GROUPS
    local token
    token=$(openssl rand -hex 16)
    echo "$token,$2,$1,\"$3\"" >> tokens.csv
    cat > "$1.conf" << END
apiVersion: v1
kind: Config
current-context: sandbox
clusters: [{ name: sandbox, cluster: { server: "https://$node:6443", certificate-authority: $work/cert.pem } }]
users: [{ name: sandbox, user: { token: $token } }]
contexts: [{ name: sandbox, context: { cluster: sandbox, user: sandbox } }]
END
}
account admin admin system:masters
account manager system:kube-controller-manager ""
account scheduler system:kube-scheduler ""
account proxy system:kube-proxy ""
account kubelet system:node:sandbox system:nodes

start etcd --data-dir "$work/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync --log-level warn
start kube-apiserver --etcd-servers http://127.0.0.1:2379 --advertise-address $node --secure-port 6443 \
    --tls-cert-file cert.pem --tls-private-key-file key.pem --client-ca-file cert.pem --token-auth-file tokens.csv \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --kubelet-preferred-address-types InternalIP \
    --service-cluster-ip-range $services --service-account-issuer https://sandbox \
    --service-account-key-file sa.key --service-account-signing-key-file sa.key --allow-privileged=true
cat > containerd.toml << END
version = 2
root = "$work/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.tracing"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true # a root without CAP_SYS_RESOURCE may not lower it
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$work/cni"
END
cat > cni/10-sandbox.conflist << END
{"cniVersion": "1.0.0", "name": "sandbox", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
start containerd --config containerd.toml
await containerd 20 ctr version
for image in $IMAGES; do ctr -n k8s.io images import "$image" > /dev/null; done
await "images imported, kube-apiserver" 60 kubectl get --raw /readyz
start kube-controller-manager --kubeconfig manager.conf --service-account-private-key-file sa.key --root-ca-file cert.pem \
    --use-service-account-credentials --leader-elect=false
start kube-scheduler --kubeconfig scheduler.conf --authentication-kubeconfig scheduler.conf \
    --authorization-kubeconfig scheduler.conf --leader-elect=false
cat > kubelet.yaml << END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: { anonymous: { enabled: true }, webhook: { enabled: false } }
authorization: { mode: AlwaysAllow }
failSwapOn: false
evictionHard: { memory.available: 100Mi }
imageGCHighThresholdPercent: 100
localStorageCapacityIsolation: false
resolvConf: ""
clusterDomain: cluster.local
clusterDNS: [$node]
staticPodPath: ""
END
start kubelet --config kubelet.yaml --kubeconfig kubelet.conf --hostname-override sandbox --node-ip $node
start kube-proxy --kubeconfig proxy.conf --hostname-override sandbox --proxy-mode nftables --cluster-cidr $pods \
    --conntrack-max-per-core 0
await 'node ready' 60 sh -c 'kubectl get nodes | grep -w Ready'
status=0
"$@" || status=$?
exit $status
