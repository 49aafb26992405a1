#!/usr/bin/env bash
# The service on a real OpenStack (tests/openstack): brings the lab up, builds our binaries and an image, runs the story of an instance through the
# official client, and takes the lab away again. Needs root. Options of go test may follow, such as -run Story.
#   LONG=1        also what is too long for CI; the result goes to docs/evidence/openstack-story.md
#   KEEP_LAB=1    the lab stays up, for a look or the next run
source "$(dirname "$0")/lib.sh"
source scripts/parts.sh
need_root
make -s tools
export LAB_STATE=${LAB_STATE:-/tmp/lab}
lab=tests/openstack/lab/lab

finish() {
	code=$?
	[ -n "${KEEP_LAB:-}" ] || $lab down -x || code=1
	exit $code
}
