#!/usr/bin/env bash
# Installs the Debian packages that are missing, and says which. Arguments: "run" (what the local cloud needs), "test" (that, and what the
# tests need), "bench" (the benchmarks of engines), "vm" (what an emulated machine needs), "disk" (what whole-disk images and their test need), "openstack"
# (that, and the clients of the story on OpenStack).
source "$(dirname "$0")/lib.sh"

run_packages=(runc mmdebstrap xfsprogs nftables mariadb-client)
test_packages=(openssl cpio postgresql mariadb-server redis-server python3-troveclient python3-openstackclient python3-keystone python3-oslo.policy wrk hyperfine curl jq systemd)
disk_packages=(mmdebstrap xfsprogs squashfs-tools grub-common grub-pc-bin qemu-utils qemu-system-x86 genisoimage e2fsprogs)

packages=("${run_packages[@]}")
[ "${1:-run}" = test ] && packages+=("${test_packages[@]}")
[ "${1:-run}" = bench ] && packages+=(sysbench postgresql-contrib redis-tools jq)
[ "${1:-run}" = vm ] && packages=(mmdebstrap qemu-system-x86 e2fsprogs)
[ "${1:-run}" = disk ] && packages=("${disk_packages[@]}")
[ "${1:-run}" = openstack ] && packages=("${disk_packages[@]}" mariadb-client postgresql-client nftables)

missing=()
for p in "${packages[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
[ ${#missing[@]} = 0 ] && exit 0
need_root
say "installing ${missing[*]}"
log=$(mktemp)
made=$log
trap 'rm -f $made' EXIT
# Only the programs of database servers are wanted: their packages would otherwise start servers of their own.
if [ ! -e /etc/postgresql-common ]; then
	mkdir -p /etc/postgresql-common/createcluster.d
	echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/no-main-cluster.conf
fi
if [ ! -e /usr/sbin/policy-rc.d ]; then
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod 755 /usr/sbin/policy-rc.d
	made="$made /usr/sbin/policy-rc.d"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >"$log" 2>&1 || {
	tail -5 "$log" >&2
	die "the package lists could not be fetched: is the package archive of this machine reachable?"
}
# A machine that only tests may lose power in the middle; a user's may not.
[ "${1:-run}" = run ] && safe=() || safe=(-o DPkg::Options::=--force-unsafe-io)
apt-get install -y -q --no-install-recommends "${safe[@]}" -o APT::Status-Fd=3 "${missing[@]}" 3> >(
	awk -F: '/^(dlstatus|pmstatus)/ { n = int($3 / 10) * 10; if (n != last) { printf "    %d %% %s\n", n, $4 > "/dev/stderr"; last = n } }'
) >>"$log" 2>&1 || {
	tail -20 "$log" >&2
	die "installing ${missing[*]} failed; the lines above say why."
}
