#!/usr/bin/env bash
# Removes everything of a state directory from this machine: instances with their data, networks, the directory. Asks first; FORCE=1 does not ask.
source "$(dirname "$0")/lib.sh"
state=${TROVE_DEMO_STATE:-var/dev}
[ -d "$state" ] || {
	say "there is nothing under $state"
	exit 0
}
need_root
[ -x bin/trove ] || make -s build
args=(--state "$state")
[ "${FORCE:-}" = 1 ] && args+=(--force)
exec bin/trove dev destroy "${args[@]}"
