#!/usr/bin/env bash
# client-root.sh SUITE [clients|dashboard]: a root file system with the OpenStack clients of a newer release of Debian, or with its Horizon and Tempest and
# what they have for Trove, in the user's cache. It is made once (about half a minute, 300 MB; a minute, 900 MB); remove the folder to have it made anew.
# Prints where it is.
source "$(dirname "$0")/lib.sh"
suite=${1:-trixie}
kind=${2:-clients}
case $kind in
clients) packages=python3-openstackclient,python3-troveclient name=$suite ;;
dashboard) packages=openstack-dashboard,python3-trove-dashboard,tempest,trove-tempest-plugin,python3-psycopg2,python3-pymysql name=$suite-dashboard ;;
*) die "client-root.sh knows \"clients\" and \"dashboard\", not \"$kind\"." ;;
esac
root=${XDG_CACHE_HOME:-$HOME/.cache}/trove/clients/$name
if [ ! -x "$root/usr/bin/python3" ]; then
	need_root
	say "making a root file system with the $kind of $suite"
	mkdir -p "$(dirname "$root")"
	rm -rf "$root.new"
	log=$(mktemp)
	trap 'rm -rf "$log" "$root.new"' EXIT
	# The archive that this machine takes its own packages from.
	archive=$(awk '/^URIs:/ { uri = $2 } /^Signed-By:.*debian-archive/ { print uri; exit } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /^http/) { print $i; exit } }' \
		/etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -1)
	[ -n "$archive" ] || die "no archive of Debian packages is configured below /etc/apt."
	TMPDIR=/var/tmp mmdebstrap --mode=root --variant=essential --skip=check/empty --include="$packages" \
		--dpkgopt=path-exclude='/usr/share/doc/*' --dpkgopt=path-exclude='/usr/share/man/*' --dpkgopt=path-exclude='/usr/share/locale/*' \
		"$suite" "$root.new" "$archive" >"$log" 2>&1 || {
		tail -20 "$log" >&2
		die "the root file system could not be made; the lines above say why."
	}
	mv "$root.new" "$root"
fi
printf '%s\n' "$root"
