# Parts "placement" and "nova" of the lab: servers as real virtual machines, under emulation unless LAB_VIRT says otherwise.
# shellcheck shell=bash
placement() {
	database placement
	conf "$ETC/placement/placement.conf" placement <<-C
		[api]
		auth_strategy = keystone
		[placement_database]
		connection = $(db_url placement)
		$(checks_tokens placement)
	C
	once placement-tables as placement placement-manage --config-dir "$ETC/placement" db sync
	wsgi placement-api placement "$IP:8778" /usr/bin/placement-api 4 OS_PLACEMENT_CONFIG_DIR="$ETC/placement"
	start placement-api
}

# virt says how guests run: LAB_VIRT is qemu (emulated; the default), kvm, auto, which boots a disk of 512 bytes to see if KVM does more than exist, or fake:
# Nova's own fake hypervisor, on which servers are words.
virt() {
	local how=${LAB_VIRT:-qemu}
	case $how in
	qemu | kvm | fake) echo "$how" ;;
	auto) if kvm_works; then echo kvm; else echo qemu; fi ;;
	*) die "LAB_VIRT is \"$how\"; it can be qemu, kvm, auto or fake." ;;
	esac
}
# more_hosts lists the compute hosts besides lab1: each is a nova-compute on the fake hypervisor, and an agent of Neutron of the same host so that ports bind there.
more_hosts() {
	local n=${LAB_COMPUTES:-1}
	[[ $n =~ ^[1-9]$ ]] || die "LAB_COMPUTES is \"$n\"; it can be 1 to 9."
	[ "$n" = 1 ] || [ "$(virt)" = fake ] || die "more than one compute host needs LAB_VIRT=fake: this is one machine."
	[ "$n" = 1 ] || seq -f 'lab%g' 2 "$n"
}
kvm_works() {
	[ -w /dev/kvm ] || return 1
	/usr/bin/python3 "$HERE/tiny.py" "$LAB/tiny.img"
	timeout -k 2 10 /usr/bin/qemu-system-x86_64 -accel kvm -m 64 -display none -nodefaults -no-user-config -serial stdio \
		-drive "file=$LAB/tiny.img,format=raw,if=virtio" </dev/null 2>/dev/null | timeout 10 grep -q -m1 'lab-tiny is up'
}

libvirt() {
	conf "$ETC/libvirt/libvirtd.conf" root <<-C
		unix_sock_group = "libvirt"
		unix_sock_rw_perms = "0770"
		auth_unix_ro = "none"
		auth_unix_rw = "none"
	C
	keep /etc/libvirt/qemu.conf # libvirtd reads it from nowhere else
	conf /etc/libvirt/qemu.conf root <<-C
		security_driver = "none"
		cgroup_controllers = [ ]
		namespaces = [ ]
		stdio_handler = "file"
		user = "nova"
		group = "nova"
		dynamic_ownership = 1
		remember_owner = 0
	C
	# An emulator's table of translated code grows to 1 GiB a guest, and Nova of this release cannot limit it: libvirtd finds this program first.
	cat >"$LAB/bin/qemu-system-x86_64" <<-C
		#!/bin/bash
		for x; do [ "\$x" = tcg ] && x=tcg,thread=multi,tb-size=${LAB_TB_SIZE:-96}; set -- "\$@" "\$x"; shift; done
		exec /usr/bin/qemu-system-x86_64 "\$@"
	C
	chmod 755 "$LAB/bin/qemu-system-x86_64"
	define libvirtd root "virsh -c qemu:///system version" env PATH="$LAB/bin:$PATH" libvirtd --config "$ETC/libvirt/libvirtd.conf"
	start libvirtd
	serving libvirtd
}

nova_conf() {
	cat <<-C
		[DEFAULT]
		my_ip = $IP
		state_path = $LAB/nova
		instances_path = $LAB/nova/instances
		transport_url = $(rabbit_url)
		enabled_apis = osapi_compute,metadata
		osapi_compute_listen = $IP
		metadata_listen = $IP
		osapi_compute_workers = 1
		metadata_workers = 1
		rootwrap_config = /etc/nova/rootwrap.conf
		force_config_drive = true
		vif_plugging_timeout = 120
		resume_guests_state_on_host_boot = true
		allow_resize_to_same_host = true
		cpu_allocation_ratio = 32
		ram_allocation_ratio = 2
		disk_allocation_ratio = 8
		reserved_host_memory_mb = 0
		max_concurrent_builds = 20
		heal_instance_info_cache_interval = 600
		rpc_response_timeout = 180
		[api_database]
		connection = $(db_url nova_api nova)
		[database]
		connection = $(db_url nova)
		[conductor]
		workers = 1
		[scheduler]
		workers = 1
		discover_hosts_in_cells_interval = 15
		[oslo_concurrency]
		lock_path = $LAB/nova/lock
		[wsgi]
		api_paste_config = /etc/nova/api-paste.ini
		[vnc]
		enabled = false
		[spice]
		enabled = false
		[quota]
		instances = -1
		cores = -1
		ram = -1
		server_groups = -1
		injected_file_content_bytes = 65536
		$(no_notices)
		[service_user]
		send_service_user_token = true
		$(account nova)
		[glance]
		$(account glance)
		[placement]
		$(account placement)
		[neutron]
		service_metadata_proxy = true
		metadata_proxy_shared_secret = $(secret metadata)
		$(account neutron)
		[cinder]
		os_region_name = $REGION
		$(account cinder)
		$(checks_tokens nova)
	C
}

# compute_conf VIRT. The host is that of Neutron's agent on this machine in any case, so that ports bind: Neutron binds a port where an agent that is alive says
# it can. The fake hypervisor makes no interface for it, and does not wait for Neutron to say that the port is up.
compute_conf() {
	if [ "$1" = fake ]; then
		# The one of its kind that changes a flavor on the same host. It says that it has 10 cores and 8 GiB. It would migrate to the same host, too: not where there are others.
		local driver=SameHostColdMigrateDriver
		[ "${LAB_COMPUTES:-1}" = 1 ] || driver=MediumFakeDriver
		printf '[DEFAULT]\nhost = lab1\ncompute_driver = fake.%s\ncpu_allocation_ratio = 128\nram_allocation_ratio = 128\n' "$driver"
		return
	fi
	cat <<-C
		[DEFAULT]
		compute_driver = libvirt.LibvirtDriver
		host = lab1
		[libvirt]
		virt_type = $1
		disk_cachemodes = file=unsafe,network=writeback
		hw_disk_discard = unmap
		inject_partition = -2
		num_memory_encrypted_guests = 0
	C
}

nova() {
	local n=$ETC/nova f="--config-file $ETC/nova/nova.conf" s
	folder nova "$LAB/nova" "$LAB/nova/lock" "$LAB/nova/instances"
	for s in nova_api nova_cell0 nova; do database $s nova; done
	nova_conf | conf "$n/nova.conf" nova
	compute_conf "$(virt)" | conf "$n/compute.conf" nova
	# shellcheck disable=SC2086 # two words
	{
		once nova-api-tables as nova nova-manage $f api_db sync
		# With the connection as an argument it would be seen; cell0 is found by the name that the command derives, which is nova_cell0.
		once nova-cell0 as nova nova-manage $f cell_v2 map_cell0
		once nova-cell1 as nova nova-manage $f cell_v2 create_cell --name cell1
		once nova-tables as nova nova-manage $f db sync
		define nova-api nova "http $IP:8774/" nova-api $f
		for s in conductor scheduler; do define nova-$s nova true nova-$s $f; done
		define nova-compute nova true nova-compute $f --config-file "$n/compute.conf"
		for s in $(more_hosts); do
			printf '[DEFAULT]\nhost = %s\n' "$s" | conf "$n/$s.conf" nova
			define "nova-compute-$s" nova true nova-compute $f --config-file "$n/compute.conf" --config-file "$n/$s.conf"
		done
	}
	for s in api conductor scheduler; do start nova-$s; done
	if [ "$(virt)" != fake ]; then
		usermod -a -G libvirt nova
		! getent group kvm >/dev/null || usermod -a -G kvm nova
		libvirt
	fi
	start nova-compute
	for s in $(more_hosts); do start "nova-compute-$s"; done
}
