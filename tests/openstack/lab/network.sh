# Part "neutron" of the lab: Linux bridges, VXLAN, router, DHCP, metadata.
# shellcheck shell=bash
neutron() {
	local n=$ETC/neutron a agents=(linuxbridge dhcp l3 metadata)
	folder neutron "$LAB/neutron" "$LAB/neutron/lock"
	database neutron
	# host is the same here and in nova-compute, or ports do not bind.
	conf "$n/neutron.conf" neutron <<-C
		[DEFAULT]
		bind_host = $IP
		state_path = $LAB/neutron
		host = lab1
		core_plugin = ml2
		service_plugins = router
		transport_url = $(rabbit_url)
		auth_strategy = keystone
		api_paste_config = /etc/neutron/api-paste.ini
		api_workers = 1
		rpc_workers = 1
		rpc_state_report_workers = 0
		dhcp_agents_per_network = 1
		notify_nova_on_port_status_changes = true
		notify_nova_on_port_data_changes = true
		global_physnet_mtu = 1500
		[agent]
		root_helper = sudo neutron-rootwrap /etc/neutron/rootwrap.conf
		root_helper_daemon = sudo neutron-rootwrap-daemon /etc/neutron/rootwrap.conf
		report_interval = 30
		# Neutron of this release refuses Linux bridges unless one says that one knows.
		[experimental]
		linuxbridge = true
		[database]
		connection = $(db_url neutron)
		[oslo_concurrency]
		lock_path = $LAB/neutron/lock
		[quotas]
		quota_port = -1
		quota_network = -1
		quota_subnet = -1
		quota_security_group = -1
		quota_security_group_rule = -1
		$(no_notices)
		[nova]
		$(account nova)
		[placement]
		$(account placement)
		$(checks_tokens neutron)
	C
	conf "$n/ml2.ini" neutron <<-C
		[ml2]
		type_drivers = flat,vxlan
		tenant_network_types = vxlan
		mechanism_drivers = linuxbridge
		extension_drivers = port_security
		[ml2_type_flat]
		flat_networks = mgmt,public,spare
		[ml2_type_vxlan]
		vni_ranges = 1:1000
		[securitygroup]
		enable_ipset = true
	C
	conf "$n/linuxbridge.ini" neutron <<-C
		[linux_bridge]
		physical_interface_mappings = mgmt:mgmt1,public:pub1,spare:spare1
		[vxlan]
		enable_vxlan = true
		local_ip = $IP
		l2_population = false
		[securitygroup]
		enable_security_group = true
		enable_ipset = true
		firewall_driver = iptables
		[agent]
		polling_interval = 1
	C
	conf "$n/dhcp.ini" neutron <<-C
		[DEFAULT]
		interface_driver = linuxbridge
		enable_isolated_metadata = true
		dnsmasq_local_resolv = false
	C
	printf '[DEFAULT]\ninterface_driver = linuxbridge\n' | conf "$n/l3.ini" neutron
	conf "$n/metadata.ini" neutron <<-C
		[DEFAULT]
		nova_metadata_host = $IP
		metadata_proxy_shared_secret = $(secret metadata)
		metadata_workers = 0
		[cache]
		enabled = false
	C
	ebtables_that_deletes
	once neutron-tables as neutron neutron-db-manage --config-file "$n/neutron.conf" --config-file "$n/ml2.ini" upgrade head
	define neutron-server neutron "http $IP:9696/" neutron-server --config-file "$n/neutron.conf" --config-file "$n/ml2.ini"
	start neutron-server
	# Where servers are words, nobody asks for an address or goes through a router: the agent by which ports bind is enough.
	[ "$(virt)" != fake ] || agents=(linuxbridge)
	for a in "${agents[@]}"; do
		define "neutron-$a" neutron true "neutron-$a-agent" --config-file "$n/neutron.conf" --config-file "$n/$a.ini"
	done
	for a in $(more_hosts); do
		printf '[DEFAULT]\nhost = %s\n[securitygroup]\nenable_security_group = false\nfirewall_driver = noop\n' "$a" | conf "$n/$a.ini" neutron
		define "neutron-linuxbridge-$a" neutron true neutron-linuxbridge-agent --config-file "$n/neutron.conf" --config-file "$n/linuxbridge.ini" --config-file "$n/$a.ini"
		agents+=("linuxbridge-$a")
	done
	serving neutron-server
	for a in "${agents[@]}"; do start "neutron-$a"; done
}

# The ebtables of Debian 12 cannot delete a rule that names several addresses (--among-src), and Neutron's agent, which does that when a port that it knows
# changes, tries it for ever and does nothing else. The program below empties the chain instead, but for the rule at its end, which is what the agent wants.
ebtables_that_deletes() {
	cat >"$LAB/bin/ebtables" <<-'C'
		#!/bin/bash
		if [[ " $* " = *" -D neutronMAC-"*" --among-src "* ]]; then
			for x; do [[ $x = neutronMAC-* ]] && chain=$x; done
			ebtables-nft -t nat --concurrent -F "$chain" && exec ebtables-nft -t nat --concurrent -A "$chain" -j DROP
		fi
		exec ebtables-nft "$@"
	C
	chmod 755 "$LAB/bin/ebtables"
	update-alternatives --quiet --install /usr/sbin/ebtables ebtables "$LAB/bin/ebtables" 100
}

# What the agents leave when they end: processes, namespaces, interfaces; all of them carry Neutron's names.
neutron_leftovers() {
	local f x protocol
	for f in "$LAB"/neutron/dhcp/*/pid "$LAB"/neutron/external/pids/*; do
		[ -s "$f" ] && x=$(tr -dc 0-9 <"$f") && grep -qaF "$LAB/neutron" "/proc/$x/cmdline" 2>/dev/null && kill "$x" 2>/dev/null
	done
	# A lab in a namespace of its own has none in it; those that it sees are of another lab.
	[ -n "${LAB_NETNS:-}" ] || for x in $(ip netns list | awk '$1 ~ /^q(dhcp|router)-/ { print $1 }'); do ip netns delete "$x"; done
	for x in $(ip -br link | awk '{ sub(/@.*/, "", $1) } $1 ~ /^(brq[0-9a-f]{8}-|tap[0-9a-f]{8}-|vxlan-[0-9])/ { print $1 }'); do ip link delete "$x" 2>/dev/null || true; done
	# Their chains of iptables are named after their programs.
	for f in iptables ip6tables; do
		for x in filter nat mangle raw; do
			if [[ $($f-save -t $x 2>/dev/null) = *neutron* ]]; then $f-save -t $x | grep -v neutron | $f-restore -T $x; fi
		done
	done
	for x in $(ebtables-nft -t nat -L 2>/dev/null | sed -n 's/^Bridge chain: \(neutron\(ARP\|MAC\)-tap[^,]*\),.*/\1/p'); do
		protocol=()
		[[ $x = neutronMAC-* ]] || protocol=(-p ARP)
		ebtables-nft -t nat -D PREROUTING "${protocol[@]}" -i "${x#neutron???-}" -j "$x" 2>/dev/null || true
		ebtables-nft -t nat -F "$x" || continue
		ebtables-nft -t nat -X "$x" || true
	done
	# What "trove openstack bootstrap" adds so that guests do not reach this host past their security groups: it names a bridge that is gone.
	for f in inet arp; do nft delete table $f trove_openstack 2>/dev/null || true; done
	! update-alternatives --query ebtables 2>/dev/null | grep "^Alternative: $LAB/" >/dev/null || update-alternatives --quiet --remove ebtables "$LAB/bin/ebtables"
	for x in $(ipset list -n 2>/dev/null | grep '^N[46I]'); do ipset destroy "$x" 2>/dev/null || true; done
	return 0
}
