# Parts "ceph", "glance", "cinder", "swift" and "barbican" of the lab: what keeps images, volumes, objects and secrets.
# shellcheck shell=bash

# Ceph of one monitor, one manager and one disk that is a sparse file; without authentication, inside the machine.
ceph() {
	local d=$LAB/ceph
	folder ceph "$d" "$d/mon" "$d/mgr" "$d/osd" "$d/run"
	[ -s "$d/fsid" ] || cat /proc/sys/kernel/random/uuid >"$d/fsid"
	conf "$CEPH_CONF" ceph <<-C
		[global]
		fsid = $(cat "$d/fsid")
		mon host = v2:$INSIDE:3300,v1:$INSIDE:6789
		public addr = $INSIDE
		cluster addr = $INSIDE
		auth cluster required = none
		auth service required = none
		auth client required = none
		auth allow insecure global id reclaim = false
		osd pool default size = 1
		osd pool default min size = 1
		osd pool default pg num = 8
		osd crush chooseleaf type = 0
		osd memory target = 939524096
		osd op num shards = 2
		bluestore block size = ${LAB_CEPH_SIZE:-21474836480}
		mon allow pool size one = true
		mon warn on pool no redundancy = false
		run dir = $d/run
		admin socket = $d/run/\$name.asok
		log to file = false
		log to stderr = true
		err to stderr = true
		pid file =
		[mon]
		mon data = $d/mon
		# A monitor would end itself where less than 5 % of this machine's disk is free, however many GiB those are.
		mon data avail crit = 0
		mon data avail warn = 0
		mgr initial modules = none
		[mgr]
		mgr data = $d/mgr
		[osd]
		osd data = $d/osd
		[client]
		rbd default features = 1
		admin socket =
	C
	chmod 644 "$CEPH_CONF" # Nova and Cinder read it as well, and there is no secret in it
	chmod 755 "$(dirname "$CEPH_CONF")"
	once ceph-mon-files ceph_mon_files
	define ceph-mon ceph "tcp $INSIDE 6789" env CEPH_CONF="$CEPH_CONF" ceph-mon -f -i a
	define ceph-mgr ceph true env CEPH_CONF="$CEPH_CONF" ceph-mgr -f -i a
	define ceph-osd ceph "$HERE/osd-is-up" env CEPH_CONF="$CEPH_CONF" ceph-osd -f -i 0
	start ceph-mon
	serving ceph-mon
	start ceph-mgr
	once ceph-osd-files ceph_osd_files
	start ceph-osd
	serving ceph-osd
	once ceph-pool ceph_pool
}
ceph_mon_files() {
	local d=$LAB/ceph
	rm -rf "$d/monmap" "$d"/mon/*
	monmaptool --create --fsid "$(cat "$d/fsid")" --addv a "[v2:$INSIDE:3300,v1:$INSIDE:6789]" "$d/monmap" && chown ceph: "$d/monmap" &&
		as ceph ceph-mon --mkfs -i a --monmap "$d/monmap"
}
ceph_osd_files() {
	[ -s "$LAB/ceph/osd.id" ] || cat /proc/sys/kernel/random/uuid >"$LAB/ceph/osd.id"
	timeout 60 /usr/bin/ceph osd new "$(cat "$LAB/ceph/osd.id")" &&
		as ceph ceph-osd --mkfs -i 0 --osd-uuid "$(cat "$LAB/ceph/osd.id")"
}
ceph_pool() { timeout 60 /usr/bin/ceph osd pool create volumes 8 && timeout 60 rbd pool init volumes; }

glance() {
	folder glance "$LAB/glance" "$LAB/glance/images" "$LAB/glance/tasks" "$LAB/glance/staging"
	database glance
	conf "$ETC/glance/glance-api.conf" glance <<-C
		[DEFAULT]
		bind_host = $IP
		bind_port = 9292
		workers = 1
		enabled_backends = file:file
		enabled_import_methods = []
		[database]
		connection = $(db_url glance)
		[glance_store]
		default_backend = file
		[file]
		filesystem_store_datadir = $LAB/glance/images
		[os_glance_tasks_store]
		filesystem_store_datadir = $LAB/glance/tasks
		[os_glance_staging_store]
		filesystem_store_datadir = $LAB/glance/staging
		[paste_deploy]
		flavor = keystone
		config_file = /etc/glance/glance-api-paste.ini
		$(no_notices)
		$(checks_tokens glance)
	C
	once glance-tables as glance glance-manage --config-file "$ETC/glance/glance-api.conf" db_sync
	define glance-api glance "http $IP:9292/" glance-api --config-file "$ETC/glance/glance-api.conf"
	start glance-api
}

cinder() {
	local s
	folder cinder "$LAB/cinder" "$LAB/cinder/lock"
	database cinder
	conf "$ETC/cinder/cinder.conf" cinder <<-C
		[DEFAULT]
		my_ip = $IP
		host = lab1
		osapi_volume_listen = $IP
		osapi_volume_workers = 1
		state_path = $LAB/cinder
		transport_url = $(rabbit_url)
		auth_strategy = keystone
		api_paste_config = /etc/cinder/api-paste.ini
		rootwrap_config = /etc/cinder/rootwrap.conf
		enabled_backends = rbd
		default_volume_type = rbd
		glance_api_servers = http://$IP:9292
		quota_volumes = -1
		quota_gigabytes = -1
		quota_snapshots = -1
		[database]
		connection = $(db_url cinder)
		[oslo_concurrency]
		lock_path = $LAB/cinder/lock
		# No rbd_user: with one Nova would ask libvirt for a secret, and there is none.
		[rbd]
		volume_driver = cinder.volume.drivers.rbd.RBDDriver
		volume_backend_name = rbd
		rbd_pool = volumes
		rbd_ceph_conf = $CEPH_CONF
		report_discard_supported = true
		$(no_notices)
		[nova]
		$(account nova)
		[service_user]
		send_service_user_token = true
		$(account cinder)
		$(checks_tokens cinder)
	C
	once cinder-tables as cinder cinder-manage --config-file "$ETC/cinder/cinder.conf" db sync
	define cinder-api cinder "http $IP:8776/" cinder-api --config-file "$ETC/cinder/cinder.conf"
	define cinder-scheduler cinder true cinder-scheduler --config-file "$ETC/cinder/cinder.conf"
	define cinder-volume cinder true env CEPH_CONF="$CEPH_CONF" cinder-volume --config-file "$ETC/cinder/cinder.conf"
	for s in api scheduler volume; do start cinder-$s; done
}

# Barbican reads its configuration from its home before it looks in /etc.
barbican() {
	folder barbican "$LAB/barbican" "$LAB/barbican/.barbican"
	database barbican
	[ -s "$LAB/secrets/barbican-kek" ] || (umask 077 && openssl rand -base64 32 >"$LAB/secrets/barbican-kek")
	conf "$LAB/barbican/.barbican/barbican.conf" barbican <<-C
		[DEFAULT]
		host_href = http://$IP:9311
		sql_connection = $(db_url barbican)
		db_auto_create = false
		[queue]
		enable = false
		[secretstore]
		enabled_secretstore_plugins = store_crypto
		[crypto]
		enabled_crypto_plugins = simple_crypto
		[simple_crypto_plugin]
		kek = '$(cat "$LAB/secrets/barbican-kek")'
		$(no_notices)
		$(checks_tokens barbican)
	C
	once barbican-tables as barbican env HOME="$LAB/barbican" barbican-manage db upgrade
	wsgi barbican-api barbican "$IP:9311" /usr/bin/barbican-wsgi-api 4 HOME="$LAB/barbican"
	start barbican-api
}

swift() {
	local t port
	folder swift "$LAB/swift" "$LAB/swift/d1" /var/cache/swift
	keep /etc/swift/swift.conf # the one file that Swift reads from nowhere else
	conf /etc/swift/swift.conf swift <<-C
		[swift-hash]
		swift_hash_path_prefix = $(secret swift-prefix)
		swift_hash_path_suffix = $(secret swift-suffix)
		[storage-policy:0]
		name = lab
		default = yes
	C
	for t in account:6202 container:6201 object:6200; do
		port=${t#*:} t=${t%:*}
		conf "$ETC/swift/$t.conf" swift <<-C
			[DEFAULT]
			bind_ip = $INSIDE
			bind_port = $port
			workers = 0
			user = swift
			swift_dir = $ETC/swift
			devices = $LAB/swift
			mount_check = false
			disable_fallocate = true
			# Nor shall it refuse what it is given because 99 % of this machine's disk are in use.
			fallocate_reserve = 0
			log_address =
			[pipeline:main]
			pipeline = $t-server
			[app:$t-server]
			use = egg:swift#$t
		C
		once "swift-$t-ring" swift_ring "$t" "$port"
		define "swift-$t" swift "tcp $INSIDE $port" "swift-$t-server" "$ETC/swift/$t.conf" -v
		start "swift-$t"
	done
	swift_proxy
}
swift_ring() {
	local b=$ETC/swift/$1.builder
	rm -f "$b"
	swift-ring-builder "$b" create 6 1 1 && swift-ring-builder "$b" add "r1z1-$INSIDE:$2/d1" 1 && swift-ring-builder "$b" rebalance
}
swift_proxy() {
	local f
	{
		cat <<-C
			[DEFAULT]
			bind_ip = $IP
			bind_port = 8080
			workers = 0
			user = swift
			swift_dir = $ETC/swift
			log_address =
			[pipeline:main]
			pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk tempurl authtoken keystoneauth copy slo dlo versioned_writes symlink proxy-logging proxy-server
			[app:proxy-server]
			use = egg:swift#proxy
			account_autocreate = true
			[filter:cache]
			use = egg:swift#memcache
			memcache_servers = $INSIDE:11211
			[filter:versioned_writes]
			use = egg:swift#versioned_writes
			allow_object_versioning = true
			[filter:keystoneauth]
			use = egg:swift#keystoneauth
			operator_roles = admin, member
			[filter:proxy-logging]
			use = egg:swift#proxy_logging
			[filter:authtoken]
			paste.filter_factory = keystonemiddleware.auth_token:filter_factory
			delay_auth_decision = true
			include_service_catalog = true
			www_authenticate_uri = $KEYSTONE
			memcached_servers = $INSIDE:11211
			$(account swift)
		C
		for f in catch_errors gatekeeper healthcheck listing_formats bulk tempurl copy slo dlo symlink; do printf '[filter:%s]\nuse = egg:swift#%s\n' $f $f; done
	} | conf "$ETC/swift/proxy.conf" swift
	define swift-proxy swift "http $IP:8080/healthcheck" swift-proxy-server "$ETC/swift/proxy.conf" -v
	start swift-proxy
}
