# Sourced by lab: where things are, messages, secrets, daemons, databases.
# shellcheck shell=bash
set -euo pipefail
umask 022

LAB=${LAB_STATE:-/tmp/lab}
# shellcheck disable=SC2034 # used by the parts
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ETC=$LAB/etc RUN=$LAB/run LOG=$LAB/log

# What guests, clients and controllers reach, and what only the cloud's own services do. The second address needs no interface, and leaves 127.0.0.1 to others.
IP=10.77.0.1
INSIDE=127.77.0.1
KEYSTONE=http://$IP:5000/v3
REGION=RegionOne

# Debian's own Python, never another one that comes first in a developer's PATH.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
unset PYTHONHOME PYTHONPATH PYENV_VERSION
# Nothing of another cloud: a proxy, or credentials that a shell has loaded.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
for v in "${!OS_@}"; do unset "$v"; done
export CEPH_CONF=$ETC/ceph/ceph.conf

say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }
die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# within SECONDS COMMAND...: tries until it succeeds.
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}

# secret NAME: the password of that name, made at its first use.
secret() {
	[ -s "$LAB/secrets/$1" ] || (umask 077 && openssl rand -hex 16 >"$LAB/secrets/$1")
	cat "$LAB/secrets/$1"
}

# conf FILE GROUP: writes a configuration from standard input; only root and that group read it, because it has passwords.
conf() {
	mkdir -p "$(dirname "$1")"
	(umask 077 && cat >"$1.new")
	chgrp "$2" "$1.new"
	chmod 640 "$1.new"
	mv "$1.new" "$1"
}

# folder USER DIRECTORY...: makes folders that are a service's own.
folder() {
	local user=$1 d
	shift
	for d; do
		mkdir -p "$d"
		chown "$user": "$d"
	done
}

# once NAME COMMAND...: runs it until it has succeeded once. A migration that was broken off cannot be repeated: then "lab down -x" is the way.
once() {
	local mark=$LAB/done/$1 name=$1
	shift
	[ -e "$mark" ] && return
	"$@" >>"$LOG/$name.log" 2>&1 || die "$name failed; $LOG/$name.log says why."
	touch "$mark"
}

# as USER COMMAND...
as() {
	local user=$1
	shift
	setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups env HOME="$(getent passwd "$user" | cut -d: -f6)" "$@"
}

# keep FILE: remembers a file of the system that is about to be replaced, or that it was absent; give_back undoes that.
keep() {
	local saved=$LAB/kept/${1//\//%}
	[ -e "$saved" ] || [ -e "$saved.absent" ] && return
	if [ -e "$1" ]; then cp -p "$1" "$saved"; else touch "$saved.absent"; fi
}
give_back() {
	local f path
	for f in "$LAB"/kept/*; do
		[ -e "$f" ] || continue
		path=$(basename "$f")
		path=${path//%/\/}
		case $f in
		*.absent) rm -f "${path%.absent}" ;;
		*) cp -p "$f" "$path" ;;
		esac
		rm -f "$f"
	done
}

# set_sysctl NAME=VALUE...: remembers what was set before.
set_sysctl() {
	local s
	for s; do
		grep -qs "^${s%%=*}=" "$LAB/sysctls" || printf '%s=%s\n' "${s%%=*}" "$(sysctl -n "${s%%=*}")" >>"$LAB/sysctls"
		sysctl -qw "$s"
	done
}

# --- Daemons. Each is defined once (its user, how one sees that it serves, its command) and can then be stopped and started by its name.

# define NAME USER READY COMMAND...: READY is "tcp ADDRESS PORT", "http ADDRESS:PORT/PATH", another command, or "true".
define() {
	local file=$LAB/daemons/$1
	printf 'user=%q\nready=%q\ncommand=(%s)\n' "$2" "$3" "$(printf '%q ' "${@:4}")" >"$file"
}
tcp() { timeout 2 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null; }
http() { curl -s -m 5 -o /dev/null "http://$1"; }

# born PID: when that process started; a pid alone could be somebody else's by now.
born() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
alive() {
	local pid since
	[ -s "$RUN/$1.pid" ] || return 1
	read -r pid since <"$RUN/$1.pid"
	[ -n "$since" ] && [ "$(born "$pid")" = "$since" ]
}

start() {
	local name=$1 user ready command pid
	[ -s "$LAB/daemons/$name" ] || die "the lab has no daemon \"$name\"; \"lab status\" lists them."
	alive "$name" && return
	# shellcheck source=/dev/null
	source "$LAB/daemons/$name"
	setsid setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups env HOME="$(getent passwd "$user" | cut -d: -f6)" "${command[@]}" \
		>>"$LOG/$name.log" 2>&1 </dev/null &
	pid=$!
	printf '%s %s\n' "$pid" "$(born "$pid")" >"$RUN/$name.pid"
}

# serving NAME [SECONDS]: waits until it does.
serving() {
	local name=$1 limit=${2:-120} user ready command end=$((SECONDS + ${2:-120}))
	# shellcheck source=/dev/null
	source "$LAB/daemons/$name"
	# shellcheck disable=SC2086 # words of a command
	until $ready >/dev/null 2>&1; do
		alive "$name" || die "$name ended; $LOG/$name.log says why."
		[ $SECONDS -lt $end ] || die "$name did not serve within $limit s ($ready); $LOG/$name.log may say why."
		sleep 0.2
	done
}

# stop NAME...: TERM to each, wait, then KILL to its process group; only what start recorded.
stop() {
	local name pid since end=$((SECONDS + 15)) still=()
	for name; do
		if alive "$name"; then
			read -r pid since <"$RUN/$name.pid"
			kill -TERM "$pid" 2>/dev/null || true
			still+=("$name")
		else
			rm -f "$RUN/$name.pid"
		fi
	done
	for name in "${still[@]}"; do
		read -r pid since <"$RUN/$name.pid"
		while [ "$(born "$pid")" = "$since" ] && [ $SECONDS -lt $end ]; do sleep 0.1; done
		kill -KILL -- "-$pid" 2>/dev/null || true # also children that outlive it, such as helpers that are root
		rm -f "$RUN/$name.pid"
	done
}

# wsgi NAME USER ADDRESS:PORT FILE THREADS [VARIABLE=VALUE...]: defines a daemon that serves a WSGI program.
wsgi() {
	define "$1" "$2" "http $3/" env "${@:6}" uwsgi_python3 --http-socket "$3" --wsgi-file "$4" --processes 1 --threads "$5" --enable-threads --master \
		--lazy-apps --need-app --buffer-size 65535 --add-header "Connection: close" --disable-logging --die-on-term
}

# --- What services share

sql() { mariadb --no-defaults -uroot -S "$RUN/mysqld.sock" -N -B; }

# database NAME [USER]: a database and its user.
database() {
	local user=${2:-$1}
	sql <<-S
		CREATE DATABASE IF NOT EXISTS \`$1\` CHARACTER SET utf8mb3;
		CREATE USER IF NOT EXISTS '$user'@'127.%' IDENTIFIED BY '$(secret "db-$user")';
		GRANT ALL ON \`$1\`.* TO '$user'@'127.%';
	S
}
db_url() { echo "mysql+pymysql://${2:-$1}:$(secret "db-${2:-$1}")@$INSIDE/$1?charset=utf8"; }
rabbit_url() { echo "rabbit://openstack:$(secret rabbit)@$INSIDE:5672/"; }

# account USER: the lines by which a service shows who it is.
account() {
	cat <<-C
		auth_type = password
		auth_url = $KEYSTONE
		project_domain_name = Default
		user_domain_name = Default
		region_name = $REGION
		project_name = service
		username = $1
		password = $(secret "user-$1")
	C
}
# checks_tokens USER: the section of a service that asks Keystone about its callers.
checks_tokens() {
	cat <<-C
		[keystone_authtoken]
		www_authenticate_uri = $KEYSTONE
		memcached_servers = $INSIDE:11211
		service_token_roles = admin
		service_token_roles_required = true
		$(account "$1")
	C
}
# no_notices: nobody listens to notifications.
no_notices() { printf '[oslo_messaging_notifications]\ndriver = noop\n'; }
