#!/usr/bin/env bash
# Puts what the rig runs into $BIN (default: target/kube-rig) and keeps what is there already: etcd, kube-apiserver,
# kube-controller-manager and kubectl, in the versions that controlplane/go.mod names. About seven minutes of CPU.
# Needs Go 1.26 or newer and, where no etcd is installed, Debian's package tools.
# usage: build.sh        (prints $BIN last)
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
KUBE=$(awk '$1 == "k8s.io/kubernetes" && $2 ~ /^v[0-9]/ { print $2; exit }' "$HERE/controlplane/go.mod")
BIN=${BIN:-$(cd "$HERE/../.." && pwd)/target/kube-rig/$KUBE}
export CGO_ENABLED=0 GOWORK=off

go_build() { # MODULE_DIR LDFLAGS PACKAGE...: those commands that $BIN lacks, in one call
  local dir=$1 ldflags=$2 package missing=()
  shift 2
  for package; do [ -x "$BIN/${package##*/}" ] || missing+=("$package"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "building ${missing[*]##*/} ..." >&2
  (cd "$HERE/$dir" && go build -trimpath -buildvcs=false -ldflags "-s -w $ldflags" -o "$SCRATCH/" "${missing[@]}")
  mv "${missing[@]/#*\//$SCRATCH/}" "$BIN/"
}

get_etcd() { # unpacked, not installed: that way no user, no service and no daemon comes with it
  [ ! -x "$BIN/etcd" ] || return 0
  local etcd apt=(apt-get -qq -o APT::Sandbox::User=root)
  if ! etcd=$(command -v etcd); then
    echo "getting etcd ..." >&2
    (cd "$SCRATCH" && { "${apt[@]}" download etcd-server || { "${apt[@]}" update && "${apt[@]}" download etcd-server; }; } &&
      dpkg-deb -x etcd-server_*.deb .) >&2
    etcd=$SCRATCH/usr/bin/etcd
  fi
  install -m 755 "$etcd" "$BIN/etcd"
}

mkdir -p "$BIN"
exec 9>"$BIN/.lock" && flock 9 # a second build waits, and then finds everything there
SCRATCH=$(mktemp -d "$BIN/.build.XXXXXX")
trap 'rm -rf "$SCRATCH"' EXIT
get_etcd
# Without the version the API server calls itself v0.0.0-master, and clients that look at it are misled.
go_build controlplane "-X k8s.io/component-base/version.gitVersion=$KUBE" \
  k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager k8s.io/kubernetes/cmd/kubectl
echo "$BIN"
