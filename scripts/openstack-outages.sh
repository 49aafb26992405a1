#!/usr/bin/env bash
# What a cloud does to the service: each of its services stopped in the middle of operations, what goes wrong in it, and things of another project named in requests
# (TestFaultsOutages, TestFaultsNamed, TestFaultsForeign of tests/openstack). All of it runs on a lab of its own in a network namespace, on Nova's fake hypervisor, which is
# brought up for it and taken away again; with LONG=1 the faults then once more on a lab with virtual machines. Needs root. Options of go test may follow, such as -run Foreign; CI
# has the walk in it too that scripts/openstack-faults.sh makes on virtual machines.
#   LONG=1        two minutes each, with all operations, an hour in all; the tables go to docs/evidence/openstack-outages.md. Without it 15 s, with one operation each
#   KEEP_LAB=1    the labs stay up, for a look or the next run
#   LAB_SHARED=1  the lab with virtual machines (LAB_REAL, /tmp/lab) is up, and others use it: it stays, and of its inventory only what is ours is compared
source "$(dirname "$0")/lib.sh"
source scripts/parts.sh
need_root
export LONG=${LONG:-} LAB_SEED_MGMT=1 LAB_SEED_TROVE=1 FAULTS_EVIDENCE=$PWD/var/openstack/outages.md
machines=$PWD/var/openstack/outages-machines.md
export CRASH_TROVE=$PWD/var/openstack/crash/trove
lab=$PWD/tests/openstack/lab/lab
fake=(env LAB_STATE="${LAB_STATE:-/tmp/lab-outages}" LAB_NETNS="${LAB_NETNS:-lab-outages}" LAB_VIRT=fake LAB_ALONE=1)
real=(env -u LAB_NETNS -u LAB_VIRT FAULTS_EVIDENCE="$machines" LAB_STATE="${LAB_REAL:-/tmp/lab}" LAB_ALONE=1)
[ -z "${LAB_SHARED:-}" ] || real=(env -u LAB_NETNS -u LAB_VIRT FAULTS_EVIDENCE="$machines" LAB_STATE="${LAB_REAL:-/tmp/lab}")

up=() beside=
take_away() {
	local code=$?
	[ -z "$beside" ] || kill "$beside" 2>/dev/null || true
	[ ${#up[@]} = 0 ] || [ -n "${KEEP_LAB:-}" ] || "${up[@]}" "$lab" down -x || code=1
	up=()
	return $code
}
trap 'take_away || exit 1' EXIT
# run LAB NAME OPTION...: where that lab's addresses are. LAB is the array of how its commands are run, NAME that of the result.
run() {
	local -n with=$1
	local name=$2
	shift 2
	"${with[@]}" "$lab" in env PATH="$PATH" scripts/gotest.sh "$name" -timeout 90m -count=1 "$@" ./tests/openstack
}
# It is of another lab, and may run beside the first part where that lab is there anyway.
with_machines() { run real openstack-faults-machines -run '^TestFaultsNamed$' >var/openstack/outages-machines.log 2>&1; }
joined() {
	wait "$beside" || { cat var/openstack/outages-machines.log >&2 && return 1; }
	beside=
}

make -s tools
mkdir -p var/openstack
part "binaries" make -s build
part "the tests" go test -c -o /dev/null ./tests/openstack
part "a program that dies where it is told to" env CGO_ENABLED=0 go build -trimpath -tags crashpoints -o "$CRASH_TROVE" ./cmd/trove
: >"$FAULTS_EVIDENCE"
: >"$machines"
all=
if [ -n "$LONG" ] && [ $# = 0 ]; then all=yes; fi
if [ -n "$all" ] && [ -n "${LAB_SHARED:-}" ]; then
	with_machines &
	beside=$!
fi
up=("${fake[@]}")
part "a lab on the fake hypervisor" "${fake[@]}" "$lab" up
part "things of others, faults, services away" run fake openstack-outages -run '^TestFaults(Foreign|Named|Outages)$' "$@"
if [ -n "$beside" ]; then
	part "faults, with virtual machines" joined
elif [ -n "$all" ]; then
	take_away
	up=("${real[@]}")
	part "a lab with virtual machines" "${real[@]}" "$lab" up
	part "faults, with virtual machines" with_machines
fi
cat "$machines" >>"$FAULTS_EVIDENCE"
cat "$FAULTS_EVIDENCE"
parts_summary
[ -n "$all" ] || exit 0
{
	echo "# Services of OpenStack away, faults, and things of other projects"
	echo
	echo "Command: \`LONG=1 make e2e-openstack-outages\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores, kernel $(uname -r). The cloud is Debian 12's OpenStack on the same machine"
	echo "(\`tests/openstack/lab\`) with Nova's fake hypervisor where nothing else is said: servers are words, ports, security groups and volumes are real. Guests are simulated: the agent that is"
	echo "shipped, over an engine that keeps files. A service that is away is one whose daemon was stopped while the first requests of all the operations stood at its door; \"went on\" is when an operation"
	echo "did something else than to try again. \"Nothing left over\": the inventory of every service was as before, when the instances had been deleted."
	cat "$FAULTS_EVIDENCE"
} >docs/evidence/openstack-outages.md
say "docs/evidence/openstack-outages.md was written"
