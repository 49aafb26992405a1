# Part "packages" of the lab: Debian's, without what they recommend, and nothing of them starts by itself.
# shellcheck shell=bash
PACKAGES=(mariadb-server rabbitmq-server memcached keystone uwsgi-core uwsgi-plugin-python3 python3-pymysql python3-memcache python3-pylibmc
	glance-api placement-api nova-api nova-conductor nova-scheduler nova-compute nova-compute-kvm python3-fixtures
	neutron-api neutron-rpc-server neutron-linuxbridge-agent neutron-dhcp-agent neutron-l3-agent neutron-metadata-agent
	cinder-api cinder-scheduler cinder-volume python3-rbd ceph-mon ceph-mgr ceph-osd ceph-common qemu-block-extra
	swift-proxy swift-account swift-container swift-object barbican-api
	libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils genisoimage dnsmasq-base ipset conntrack ebtables iptables nftables
	iproute2 procps util-linux sudo openssl curl jq
	python3-openstackclient python3-openstacksdk python3-troveclient python3-swiftclient python3-barbicanclient)

packages() {
	local p missing=() made=
	for p in "${PACKAGES[@]}"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
	done
	[ ${#missing[@]} = 0 ] && return
	say "installing ${#missing[@]} packages and what they need"
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod 755 /usr/sbin/policy-rc.d
		made=/usr/sbin/policy-rc.d
	fi
	if ! apt-get update -q >"$LOG/apt.log" 2>&1 ||
		! apt-get install -y -q --no-install-recommends -o DPkg::Options::=--force-unsafe-io -o DPkg::Lock::Timeout=600 "${missing[@]}" >>"$LOG/apt.log" 2>&1; then
		rm -f $made
		tail -15 "$LOG/apt.log" >&2
		die "the packages could not be installed; the lines above and $LOG/apt.log say why."
	fi
	rm -f $made
}
