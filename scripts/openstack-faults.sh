#!/usr/bin/env bash
# The taskmanager killed at the boundaries of its steps on a real OpenStack: brings the lab up, runs TestFaultsCrashWalk* of tests/openstack, and takes the lab away again. Needs root.
#   LONG=1        every boundary, and each answer of the cloud lost, most of an hour; the table goes to docs/evidence/openstack-faults.md
#   KEEP_LAB=1    the lab stays up, for a look or the next run
#   LAB_SHARED=1  the lab is up, and others use it: it stays, and of its inventory only what is ours is compared
source "$(dirname "$0")/lib.sh"
source scripts/parts.sh
need_root
export LAB_STATE=${LAB_STATE:-/tmp/lab} LONG=${LONG:-} LAB_ALONE=1 LAB_SEED_MGMT=1 LAB_SEED_TROVE=1
export CRASH_TROVE=$PWD/var/openstack/crash/trove FAULTS_EVIDENCE=$PWD/var/openstack/faults.md
lab=tests/openstack/lab/lab

take_away() {
	code=$?
	[ -n "${KEEP_LAB:-}${LAB_SHARED:-}" ] || $lab down -x || code=1
	exit $code
}

make -s tools
mkdir -p var/openstack
if [ -z "${LAB_SHARED:-}" ]; then
	part "packages of OpenStack" $lab packages
	trap take_away EXIT
	part "the lab" $lab up
else
	export LAB_ALONE=
fi
part "binaries" make -s build
part "a program that dies where it is told to" env CGO_ENABLED=0 go build -trimpath -tags crashpoints -o "$CRASH_TROVE" ./cmd/trove
: >"$FAULTS_EVIDENCE"
part "faults" scripts/gotest.sh openstack-faults -timeout 90m -count=1 -run '^TestFaultsCrashWalk' ./tests/openstack "$@"
cat "$FAULTS_EVIDENCE"
parts_summary
[ -n "$LONG" ] && [ $# = 0 ] || exit 0
{
	echo "# The taskmanager killed on OpenStack"
	echo
	echo "Command: \`LONG=1 make e2e-openstack-faults\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores, kernel $(uname -r). The cloud is Debian 12's OpenStack on the same"
	echo "machine; the servers have an image without a system, and their guests are simulated (\`tests/openstack/guests_test.go\`)."
	echo
	echo "Where the taskmanager is killed, \`kill -9\` comes \"before\" a step's function is called, \"after\" it returned and before anything of that is stored, when the step"
	echo "was released to wait (\"waited\"), or when all is stored (\"closed\"). With \"undo-\" the last step of the operation fails for good, and it is taken back. \"Seconds\" are from"
	echo "the kill to the end of the operation, the new start of the taskmanager included. \"Nothing\" is left over when the inventory of Nova, Placement, Cinder, Neutron, Glance, Swift,"
	echo "Barbican and of what stands behind them on the machine (domains, RBD images, interfaces, directories) has nothing of an instance that is gone, and of one that lives each"
	echo "part once; when the service's quotas are those of its instances, and its store has no open operation, lock, guest or report without an owner."
	cat "$FAULTS_EVIDENCE"
} >docs/evidence/openstack-faults.md
say "docs/evidence/openstack-faults.md was written"
