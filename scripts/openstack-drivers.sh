#!/usr/bin/env bash
# The tests of the drivers that need a real OpenStack, on a lab that is up (LAB_STATE). Everywhere else they are skipped (tests/allowed-skips.txt); a test that is skipped here fails
# the run. Needs root. Options of go test may follow.
source "$(dirname "$0")/lib.sh"
need_root
export LAB_STATE=${LAB_STATE:-/tmp/lab}
tests='TestSuiteAgainstAnOpenStack|TestAnInstanceOfAPythonTroveIsAdopted|TestLab|TestSuiteInTheLab|TestATenantsContainerInTheLab|TestConformanceInTheLab|TestSecretsOfTenantsInTheLab'
packages=(./cloud/openstack ./cloud/openstack/bootstrap ./backupstore/swift ./secrets/barbican)

lab=tests/openstack/lab/lab
LAB_SEED_MGMT=1 LAB_SEED_TROVE=1 $lab up seed
rc=$(umask 077 && mktemp)
trap 'rm -f "$rc"; $lab openstack quota set --gigabytes -1 service' EXIT
$lab openstack quota set --gigabytes 5000 service
# Written and read by the shell itself: a password is in no command line.
{
	grep '^export OS_AUTH' "$LAB_STATE/adminrc"
	printf 'export OS_USERNAME=trove OS_USER_DOMAIN_NAME=Default OS_PROJECT_NAME=service OS_PROJECT_DOMAIN_NAME=Default OS_PASSWORD=%s\n' "$(<"$LAB_STATE/secrets/user-trove")"
	# A size that the quota has no room for; the lab has none by itself.
	echo 'export TROVE_TEST_PUBLIC=public TROVE_TEST_POOL=100000'
} >"$rc"
# shellcheck source=/dev/null
source "$rc"
export TROVE_OPENSTACK_TEST=$rc TROVE_OPENSTACK_LAB=1 ALLOWED_SKIPS=/dev/null
TROVE_OPENSTACK_LAB_TENANT=demo:$(<"$LAB_STATE/secrets/user-demo"):demo
export TROVE_OPENSTACK_LAB_TENANT
scripts/gotest.sh openstack-drivers -p 1 -timeout 60m -count=1 -run "^($tests)\$" "$@" "${packages[@]}"
