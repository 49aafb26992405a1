#!/usr/bin/env bash
# The service on a real OpenStack (tests/openstack): brings the lab up, builds our binaries and guest images, runs the story of an instance through the
# official client, and takes the lab away again. Needs root. Options of go test may follow, such as -run Story.
#   LONG=1        also what is too long for CI; the result goes to docs/evidence/openstack-story.md
#   KEEP_LAB=1    the lab stays up, for a look or the next run
source "$(dirname "$0")/lib.sh"
source scripts/parts.sh
need_root
export LAB_STATE=${LAB_STATE:-/tmp/lab} LONG=${LONG:-} TROVE_CACHE=$PWD/var/cache
lab=tests/openstack/lab/lab
story=$PWD/var/openstack
images=(mariadb-10.11) skip='^TestFaults|BehindARouter'
[ -z "$LONG" ] || { images+=(mariadb-11.8 postgresql-15 postgresql-17 mysql-9.7) && skip='^TestFaults'; }

take_away() {
	code=$?
	[ -n "${KEEP_LAB:-}" ] || $lab down -x || code=1
	exit $code
}
build_images() {
	local name
	mkdir -p "$story/images"
	rm -f "$story"/images/* # of another agent, they would be other images
	for name in "${images[@]}"; do
		bin/trove image build --state "$story/build" --format qcow2 --datastore "${name%-*}" --datastore-version "${name##*-}" -o "$story/images/$name.qcow2" && continue
		[ "$name" = mysql-9.7 ] || return 1
		say "MySQL is of sid, whose packages do not fit together on some days: its part is left out"
	done
	ls -l "$story/images" >&2
}

make -s tools
mkdir -p "$story"
part "packages" scripts/install-packages.sh openstack
part "packages of OpenStack" $lab packages
trap take_away EXIT
part "the lab" $lab up
part "binaries" make -s build
part "guest images" build_images
: >"$story/times.md"
part "the story" env STORY_EVIDENCE="$story/times.md" scripts/gotest.sh openstack -timeout 90m -skip "$skip" -count=1 ./tests/openstack "$@"
[ -z "$LONG" ] || [ $# -gt 0 ] || part "the drivers on the lab" scripts/openstack-drivers.sh
cat "$story/times.md"
parts_summary | tee "$story/parts.txt"
[ -n "$LONG" ] && [ $# = 0 ] || exit 0
{
	echo "# An instance on OpenStack"
	echo
	echo "Command: \`LONG=1 make e2e-openstack\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores, kernel $(uname -r). The cloud is Debian 12's OpenStack on the same"
	echo "machine (\`tests/openstack/lab\`), its guests are emulated. Every command was given to Debian's unmodified \`openstack\`; after each story the inventory of every"
	echo "service was as before it."
	cat "$story/times.md"
	printf '\n## The whole run\n\n```'
	cat "$story/parts.txt"
	printf '```\n'
} >docs/evidence/openstack-story.md
say "docs/evidence/openstack-story.md was written"
