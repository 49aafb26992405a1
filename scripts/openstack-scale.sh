#!/usr/bin/env bash
# 100 instances at once against the same servers made by a bare script, on an OpenStack of Debian's packages whose hypervisor is Nova's fake one: a lab in a network
# namespace of its own, which is brought up for it and taken away again. Simulated guests boot in the servers. The result goes to docs/evidence. About an hour;
# the machine should have nothing else to do. Needs root. Options of the program may follow, such as -large 40.
#   KEEP_LAB=1    the lab stays up
source "$(dirname "$0")/lib.sh"
need_root
export LAB_STATE=${LAB_STATE:-/tmp/lab-scale} LAB_NETNS=${LAB_NETNS:-lab-scale} LAB_VIRT=fake LAB_SEED_TROVE=1
lab=tests/openstack/lab/lab
dir=var/openstack-scale

take_away() {
	code=$?
	[ -n "${KEEP_LAB:-}" ] || $lab down -x || code=1
	exit $code
}

mkdir -p "$dir"
make -s build
go build -o "$dir/scale" ./tests/openstack/scale
trap take_away EXIT
$lab up
out=$dir/openstack-scale.md
{
	echo "# Many instances at once on OpenStack"
	echo
	echo "Command: \`make bench-openstack-scale\`${*:+ with \`$*\`}. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores shared with the whole cloud, kernel $(uname -r)."
	echo "The cloud is Debian 12's OpenStack (\`tests/openstack/lab\`) with Nova's fake hypervisor: servers are words, ports, security groups and volumes are real. The bare script"
	echo "(gophercloud) makes for each server a security group with two rules, two ports, a volume of 1 GiB on Ceph and the server, once each and without tags. Of the service, ACTIVE means that"
	echo "a guest agent has enrolled with the token in the server's user data and prepared its database (engine/fake)."
	echo
} >"$out"
code=0
$lab in "$dir/scale" -lab "$LAB_STATE" "$@" | tee -a "$out" || code=$?
[ "$code" = 0 ] || die "a limit was not kept; what the processes said is in $dir/state/*.log, and the tables are in $out"
mkdir -p docs/evidence && mv "$out" docs/evidence/openstack-scale.md
