#!/usr/bin/env bash
# A Kubernetes control plane and one stand-in node, in a network namespace of their own.
# usage: DIR=<scratch> [NS=rig] [BIN=<build.sh's>] rig.sh up | run | down | exec CMD... | env | stop PART | start PART
# `run` is up, a line that says so, and down at the end of standard input. Parts are etcd, api, kcm, kubelet and proxy:
# the API without TLS and passwords on 127.0.0.1:8001.
# EXTRA_TOKENS and EXTRA_IMAGES may name files: more API users (token,user,uid[,"groups"]), and more images that Pods can
# run (a part of the image's name, then a command line). WAIT is how many seconds a component may take to become ready.
set -uo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
: "${DIR:?must name a scratch directory}"
NS=${NS:-rig} WAIT=${WAIT:-60}
STATE=$(realpath -m "$DIR")/$NS
TOKEN=admintoken
API=https://127.0.0.1:6443
export KUBECONFIG=$STATE/kubeconfig
declare -A PIDS=()

die() { echo "rig: $*" >&2; exit 1; }

# Pods get the namespaces NS-p10, NS-p11, ...: without a dash in NS no rig can take another's Pods for its own.
[[ $NS =~ ^[a-z][a-z0-9]{0,9}$ ]] || die "NS must be 1 to 10 lower-case letters and digits, not '$NS'"

in_ns() { nsenter --net="/run/netns/$NS" "$@"; } # the network only: `ip netns add` still works inside

start() { # NAME CMD...: in the background, log in $STATE/NAME.log
  local name=$1
  shift
  nsenter --net="/run/netns/$NS" setsid "$@" >"$STATE/$name.log" 2>&1 </dev/null &
  PIDS[$name]=$!
  echo $! >"$STATE/$name.pid"
  disown
}

fail() { # NAME WHAT: the end of the failing component's log, and then nothing is left running; the logs are kept
  echo "rig: $1 $2; the end of $STATE/$1.log:" >&2
  tail -n 20 "$STATE/$1.log" >&2
  exit 1
}

await() { # NAME CMD...: until CMD holds, as long as no component has ended
  local name=$1 other deadline=$((SECONDS + WAIT))
  shift
  until "$@" >/dev/null 2>&1; do
    for other in "${!PIDS[@]}"; do kill -0 "${PIDS[$other]}" 2>/dev/null || fail "$other" "has ended"; done
    [ $SECONDS -lt $deadline ] || fail "$name" "is not ready after $WAIT s"
    sleep 0.1
  done
}

get() { in_ns curl -sf -m 2 --cacert "$STATE/certs/apiserver.crt" -H "Authorization: Bearer $TOKEN" "$API$1"; }
node_ready() { get /api/v1/nodes/rig | grep -qE '"reason": *"Rig"'; }

remove_state() { # only what a rig has made
  [ ! -e "$STATE" ] || [ -e "$STATE/.kube-rig" ] || die "$STATE is not a rig's"
  rm -rf "${STATE:?}"
}

make_network() {
  ip netns add "$NS" || die "there is a network namespace '$NS' already: rig.sh down, or another NS"
  trap stop EXIT
  { # the alias is how `down` knows the namespaces that are its own
    echo link set lo up alias kube-rig
    echo link add br0 type bridge
    echo addr add 10.244.0.1/16 dev br0 # Pods
    echo link set br0 up
    echo addr add 10.0.0.1/32 dev lo # API server
    echo addr add 10.0.0.2/32 dev lo # node
    printf 'addr add 10.200.0.%d/32 dev lo\n' {1..120} # Gateways
  } | ip -n "$NS" -batch - || die "cannot make the rig's network"
  in_ns sysctl -qw net.ipv4.ip_forward=1 net.ipv4.ip_unprivileged_port_start=0
}

write_files() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$STATE/sa.key" 2>"$STATE/openssl.log" ||
    fail openssl failed
  openssl pkey -in "$STATE/sa.key" -pubout -out "$STATE/sa.pub" 2>"$STATE/openssl.log" || fail openssl failed
  { echo "$TOKEN,admin,admin,\"system:masters\"" && cat ${EXTRA_TOKENS:+"$EXTRA_TOKENS"} </dev/null; } >"$STATE/tokens.csv"
  {
    cat ${EXTRA_IMAGES:+"$EXTRA_IMAGES"} </dev/null
  } >"$STATE/images"
  cat >"$KUBECONFIG" <<KUBECONFIG
{apiVersion: v1, kind: Config, current-context: rig,
 clusters: [{name: rig, cluster: {server: "$API", certificate-authority: "$STATE/certs/apiserver.crt"}}],
 users: [{name: admin, user: {token: $TOKEN}}], contexts: [{name: rig, context: {cluster: rig, user: admin}}]}
KUBECONFIG
}

start_etcd() {
  start etcd "$BIN/etcd" --name rig --data-dir "$STATE/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster rig=http://127.0.0.1:2380
}

start_api() {
  start api "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --bind-address=127.0.0.1 --secure-port=6443 \
    --advertise-address=10.0.0.1 --cert-dir="$STATE/certs" --service-cluster-ip-range=10.96.0.0/16 \
    --token-auth-file="$STATE/tokens.csv" --authorization-mode=RBAC --allow-privileged=true \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$STATE/sa.pub" \
    --service-account-signing-key-file="$STATE/sa.key" --endpoint-reconciler-type=none \
    --enable-priority-and-fairness=false --kubelet-preferred-address-types=InternalIP \
    --enable-aggregator-routing=true --v=1
}

start_kcm() {
  local controllers
  controllers=deployment,replicaset,endpointslice,endpointslice-mirroring,endpoints,namespace,garbage-collector
  controllers+=,serviceaccount,clusterrole-aggregation,pod-garbage-collector
  start kcm "$BIN/kube-controller-manager" --kubeconfig="$KUBECONFIG" --bind-address=127.0.0.1 --leader-elect=false \
    --service-account-private-key-file="$STATE/sa.key" --use-service-account-credentials=false \
    --controllers="${controllers//,/-controller,}-controller" --v=1
}

start_kubelet() {
  start kubelet env RIG_NS="$NS" RIG_DIR="$STATE" RIG_API="$API" RIG_CA="$STATE/certs/apiserver.crt" RIG_TOKEN=$TOKEN \
    RIG_NODE_IP=10.0.0.2 RIG_IMAGES="$STATE/images" python3 -u "$HERE/fake_kubelet.py"
}

start_proxy() {
  start proxy "$BIN/kubectl" --kubeconfig="$KUBECONFIG" proxy --port=8001 --disable-filter
}

up() {
  make_network # first: where a rig is up already this fails, and that rig keeps its state
  remove_state
  mkdir -p "$STATE" && touch "$STATE/.kube-rig" || exit 1
  write_files
  start_etcd
  start_api
  await api get /readyz
  start_kcm
  start_kubelet
  start_proxy
  await kubelet node_ready
  await kcm get /api/v1/namespaces/default/serviceaccounts/default # without it no Pod is admitted
  await proxy in_ns curl -sf -m 2 http://127.0.0.1:8001/version
  trap - EXIT
}

namespaces() { ip netns list | awk -v ns="$NS" '$1 == ns || $1 ~ "^" ns "-p[0-9]+$" { print $1 }'; }

# By network namespace, so that nothing survives a lost process id; the rig's own first, so that no new Pods come.
stop() {
  local ns pids
  [ -e "/run/netns/$NS" ] || return 0
  for ns in "$NS" $(namespaces); do
    for _ in {1..100}; do
      pids=$(ip netns pids "$ns" 2>/dev/null)
      [ -n "$pids" ] || break
      # shellcheck disable=SC2086
      kill -9 $pids 2>/dev/null
      sleep 0.02
    done
    ip netns del "$ns" 2>/dev/null
  done
}

is_over() { # PID: it is gone, or nothing of it is left but who it was
  local threads state
  threads=$(ls "/proc/$1/task" 2>/dev/null)
  state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null)
  [ -z "$threads" ] || [ "$threads ${state:0:1}" = "$1 Z" ]
}

down() {
  if [ -e "/run/netns/$NS" ]; then
    ip -n "$NS" link show lo | grep -q 'alias kube-rig' || die "the network namespace '$NS' is not a rig's"
    [ "$(ip netns identify $$)" != "$NS" ] || die "down has to be called from outside the rig"
    stop
  fi
  remove_state
}

need() { local tool; for tool; do command -v "$tool" >/dev/null || die "$tool is missing"; done; }

[ "$(id -u)" = 0 ] || die "network namespaces need root, or: unshare --user --map-root-user --net --mount --pid --fork"
case ${1:-} in
  up | run | exec | env | start) BIN=${BIN:-$("$HERE/build.sh")} && [ -n "$BIN" ] || die "the build failed" ;;
esac
case ${1:-} in
  up) need ip nsenter setsid openssl curl python3 && up ;;
  run)
    need ip nsenter setsid openssl curl python3 && up || exit
    trap down EXIT # whatever ends it
    trap 'exit 143' TERM INT HUP
    echo up
    cat >/dev/null
    ;;
  start) "start_${2:?names a part}" && if [ "$2" = api ]; then await api get /readyz; fi ;;
  stop)
    pid=$(cat "$STATE/${2:?names a part}.pid")
    kill -9 "$pid"
    # Its port is free once its last thread is gone.
    until is_over "$pid"; do sleep 0.02; done
    ;;
  down) down ;;
  exec) shift && PATH=$BIN:$PATH in_ns "$@" ;;
  env) echo "export KUBECONFIG='$KUBECONFIG' BIN='$BIN' NS='$NS' DIR='${STATE%/*}'" ;;
  *) sed -n '2,7s/^# //p' "$0" >&2; exit 2 ;;
esac
