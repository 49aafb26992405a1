# Parts "net" and "base" of the lab: interfaces; MariaDB, RabbitMQ, memcached, Keystone.
# shellcheck shell=bash

# pair HOST NEUTRON ADDRESS: the host's end of a cable carries the address; the other end is a physical interface to Neutron's agent.
pair() {
	if ! ip link show "$1" >/dev/null 2>&1; then
		ip link add "$1" type veth peer name "$2" || die "this machine lets nobody add network interfaces; the lab needs that."
	fi
	ip link set "$1" up
	ip link set "$2" up
	[[ $(ip addr show "$1") = *" $3 "* ]] || ip addr add "$3" dev "$1"
}

net() {
	pair mgmt0 mgmt1 "$IP/24" # management network of the service
	pair pub0 pub1 172.24.4.1/24 # floating addresses
	pair spare0 spare1 10.78.0.1/24 # for whoever tries to make another management network
	# Security groups filter on bridges. Where it is a module, it may have to be loaded; where it is not there at all, guests would not be kept apart.
	[ -e /proc/sys/net/bridge ] || ! command -v modprobe >/dev/null || modprobe br_netfilter || true
	[ -e /proc/sys/net/bridge ] || die "this kernel does not filter on bridges (br_netfilter): security groups would do nothing."
	set_sysctl net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
}

base() {
	mariadb_server
	rabbit_server
	define memcached memcache "tcp $INSIDE 11211" memcached -l "$INSIDE" -p 11211 -m 64 -U 0
	start memcached
	serving mysqld
	keystone
	serving memcached
	serving rabbitmq
}

mariadb_server() {
	if [ ! -d "$LAB/mysql/mysql" ]; then
		folder mysql "$LAB/mysql"
		mariadb-install-db --no-defaults --user=mysql --datadir="$LAB/mysql" --auth-root-authentication-method=socket --skip-test-db \
			>"$LOG/mariadb-install.log" 2>&1 || die "MariaDB's tables could not be made; $LOG/mariadb-install.log says why."
	fi
	conf "$ETC/my.cnf" mysql <<-C
		[mysqld]
		datadir = $LAB/mysql
		socket = $RUN/mysqld.sock
		pid-file = $LAB/mysql/mysqld.pid
		bind-address = $INSIDE
		port = 3306
		max_connections = 1000
		innodb_buffer_pool_size = 256M
		# Survives the death of the server, not that of the machine; and migrations are made in a third of the time.
		innodb_flush_log_at_trx_commit = 2
		character-set-server = utf8mb3
		skip-name-resolve
	C
	# A server that ends without being told to is started again: the package script of another mariadb-server, run in a root of its own on the same machine,
	# ends every server that it sees.
	# shellcheck disable=SC2016 # the inner shell's variables
	define mysqld mysql "mariadb-admin --no-defaults -uroot -S $RUN/mysqld.sock ping" bash -c \
		'trap "kill -TERM \$p; wait \$p; exit 0" TERM; while :; do /usr/sbin/mariadbd --defaults-file="$0" & p=$!; wait $p; sleep 1; done' "$ETC/my.cnf"
	start mysqld
}

rabbit_env() {
	cat <<-C
		export HOME=/var/lib/rabbitmq ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=14369
		export RABBITMQ_NODENAME=lab@localhost RABBITMQ_DIST_PORT=15679 RABBITMQ_NODE_IP_ADDRESS=$INSIDE
		export RABBITMQ_MNESIA_BASE=$LAB/rabbit RABBITMQ_LOG_BASE=$LAB/rabbit/log RABBITMQ_LOGS=-
		export RABBITMQ_CONFIG_FILE=$ETC/rabbitmq/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=$ETC/rabbitmq/plugins
		export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
		export RABBITMQ_CTL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
	C
}
rabbit_server() {
	folder rabbitmq "$LAB/rabbit" "$LAB/rabbit/log"
	# The first account is made from the configuration, so its password is on no command line.
	conf "$ETC/rabbitmq/rabbitmq.conf" rabbitmq <<-C
		listeners.tcp.1 = $INSIDE:5672
		default_user = openstack
		default_pass = $(secret rabbit)
		default_permissions.configure = .*
		default_permissions.read = .*
		default_permissions.write = .*
		vm_memory_high_watermark.relative = 0.4
		log.console.level = warning
	C
	echo '[].' | conf "$ETC/rabbitmq/plugins" rabbitmq
	rabbit_env | conf "$ETC/rabbitmq/env" rabbitmq
	define epmd rabbitmq "tcp 127.0.0.1 14369" epmd -address 127.0.0.1 -port 14369
	define rabbitmq rabbitmq "tcp $INSIDE 5672" bash -c ". $ETC/rabbitmq/env; exec /usr/lib/rabbitmq/bin/rabbitmq-server"
	start epmd
	start rabbitmq
}

keystone() {
	folder keystone "$LAB/keystone"
	chmod 700 "$LAB/keystone"
	database keystone
	conf "$ETC/keystone/keystone.conf" keystone <<-C
		[DEFAULT]
		log_file =
		[database]
		connection = $(db_url keystone)
		[token]
		provider = fernet
		# A day of work, and no service has to be told.
		expiration = 43200
		[fernet_tokens]
		key_repository = $LAB/keystone/fernet-keys
		[fernet_receipts]
		key_repository = $LAB/keystone/fernet-keys
		[credential]
		key_repository = $LAB/keystone/credential-keys
		[cache]
		enabled = true
		backend = dogpile.cache.memcached
		memcache_servers = $INSIDE:11211
		$(no_notices)
	C
	local manage=(as keystone keystone-manage --config-dir "$ETC/keystone")
	once keystone-tables "${manage[@]}" db_sync
	once keystone-fernet "${manage[@]}" fernet_setup --keystone-user keystone --keystone-group keystone
	once keystone-credentials "${manage[@]}" credential_setup --keystone-user keystone --keystone-group keystone
	# The command takes the password from an argument or from its environment; the second is seen by root and Keystone only.
	OS_BOOTSTRAP_PASSWORD=$(secret user-admin) once keystone-bootstrap "${manage[@]}" bootstrap --bootstrap-username admin --bootstrap-project-name admin \
		--bootstrap-role-name admin --bootstrap-service-name keystone --bootstrap-region-id "$REGION" \
		--bootstrap-admin-url "$KEYSTONE" --bootstrap-internal-url "$KEYSTONE" --bootstrap-public-url "$KEYSTONE"
	wsgi keystone keystone "$IP:5000" /usr/bin/keystone-wsgi-public 4 OS_KEYSTONE_CONFIG_DIR="$ETC/keystone"
	start keystone
	serving keystone
	local user
	for user in admin demo other; do rc $user $user; done
	for user in glance placement nova neutron cinder swift barbican; do secret user-$user >/dev/null; done
	once keystone-register labpython register.py
}

# rc USER PROJECT: the file that a shell loads to act as that user.
rc() {
	conf "$LAB/$1rc" root <<-C
		# Loaded by a shell: OpenStack's clients act as $1 in the project $2.
		export OS_AUTH_TYPE=password OS_IDENTITY_API_VERSION=3 OS_AUTH_URL=$KEYSTONE OS_REGION_NAME=$REGION OS_INTERFACE=public
		export OS_USERNAME=$1 OS_USER_DOMAIN_NAME=Default OS_PROJECT_NAME=$2 OS_PROJECT_DOMAIN_NAME=Default
		export OS_PASSWORD=$(secret "user-$1")
	C
	chmod 600 "$LAB/$1rc"
}

# labpython FILE [ARGUMENT...]: one of the lab's programs, as admin.
labpython() {
	# shellcheck source=/dev/null
	(source "$LAB/adminrc" && LAB=$LAB timeout 300 /usr/bin/python3 "$HERE/$1" "${@:2}")
}
