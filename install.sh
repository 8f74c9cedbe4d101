#!/bin/sh
# Makes a node of this machine: checks it, installs what is missing and the
# binary, calls `skiff init` or `skiff join` with the arguments given, and adds
# a systemd unit where systemd runs. See docs/install.md.
set -eu

usage() {
	cat <<-'END'
		usage: install.sh init [FLAGS of skiff init]
		       install.sh join API-SERVER:PORT [FLAGS of skiff join]

		SKIFF_BINARY   a binary that was built before (default: build bin/skiff here)
		PREFIX         where the binary goes (default: /usr/local)
	END
}

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

case "${1:-}" in
init | join) ;;
-h | --help | help)
	usage
	exit 0
	;;
*)
	usage >&2
	exit 2
	;;
esac
here=$(cd "$(dirname "$0")" && pwd)
prefix=${PREFIX:-/usr/local}
binary=${SKIFF_BINARY:-}

# Checks that need nothing installed; skiff's own checks follow.
[ "$(uname -s)" = Linux ] || fail "this is $(uname -s): skiff runs on Linux"
[ "$(id -u)" = 0 ] || fail "not running as root: run it with sudo"
[ -d /sys/fs/cgroup ] || fail "no cgroups at /sys/fs/cgroup: mount them first"
grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null ||
	fail "the kernel has no overlayfs: load or build the module overlay"
if [ -n "$binary" ]; then
	[ -x "$binary" ] || fail "SKIFF_BINARY=$binary is no program"
elif ! command -v go >/dev/null; then
	fail "go is missing: install Go, or name a built binary in SKIFF_BINARY"
fi

packages="iptables"
[ -n "$binary" ] || packages="$packages make gcc libc6-dev pkg-config libseccomp-dev zstd"
missing=
for p in $packages; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
	command -v apt-get >/dev/null || fail "install these first:$missing"
	echo "Installing$missing"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	# shellcheck disable=SC2086
	apt-get install -y -qq --no-install-recommends $missing
fi

if [ -z "$binary" ]; then
	make -C "$here" build
	binary=$here/bin/skiff
fi
mkdir -p "$prefix/bin"
# Renamed into place: the old one may be running.
cp "$binary" "$prefix/bin/.skiff.new"
chmod 755 "$prefix/bin/.skiff.new"
mv "$prefix/bin/.skiff.new" "$prefix/bin/skiff"

"$prefix/bin/skiff" "$@"

# A node below a folder of its own is started by hand.
case " $* " in
*" --root"*) exit 0 ;;
esac

# Where systemd runs, it takes the node over and starts it at boot.
# Containers are in cgroups of their own, and live on when the unit stops.
if [ -d /run/systemd/system ]; then
	cat >/etc/systemd/system/skiff.service <<-END
		[Unit]
		Description=skiff, a Kubernetes node
		Wants=network-online.target
		After=network-online.target

		[Service]
		ExecStart=$prefix/bin/skiff run
		Restart=always
		RestartSec=2
		KillMode=process
		Delegate=yes
		LimitNOFILE=1048576
		TasksMax=infinity

		[Install]
		WantedBy=multi-user.target
	END
	"$prefix/bin/skiff" down
	systemctl daemon-reload
	systemctl enable --now skiff.service
fi
