#!/usr/bin/env bash
# 50 creates of a MariaDB to a successful login on a deployment of its own with a warm image, with the time of each step, and 20 of every other engine and
# version; the result goes to docs/evidence.
source "$(dirname "$0")/lib.sh"
need_root
state=var/bench
make -s build
mkdir -p var/gocache docs/evidence
go build -o var/provision ./tests/provision
export TROVE_CACHE=$PWD/var/cache TROVE_API_RATE_LIMIT=0
others=()
for recipe in image/recipes/*.json; do
	datastore=$(jq -r .datastore "$recipe") version=$(jq -r .version "$recipe")
	bin/trove image build --state "$state" --datastore "$datastore" --datastore-version "$version"
	[ "$datastore $version" = "mariadb 10.11" ] || others+=("$datastore $version")
done
bin/trove dev start --state "$state" --listen "${BENCH_LISTEN:-127.0.0.1:18779}"
trap 'bin/trove dev destroy --state "$state" --force' EXIT
# shellcheck disable=SC1091
. "$state/openrc"
out=docs/evidence/bench-provision.md
{
	echo "# Provisioning: create to login"
	echo
	echo "Command: \`make bench-provision\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores, kernel $(uname -r)."
	echo
	var/provision -n 3 >/dev/null # the page cache and the shelf of spares are warm
	var/provision -n "${BENCH_N:-50}" -p50 "${BENCH_P50:-300ms}" -p99 "${BENCH_P99:-600ms}"
	for other in "${others[@]}"; do
		read -r datastore version <<<"$other"
		printf '\n## %s %s\n\n' "$datastore" "$version"
		var/provision -n 2 -datastore "$datastore" -datastore-version "$version" >/dev/null
		var/provision -n "${BENCH_N_OTHERS:-20}" -datastore "$datastore" -datastore-version "$version"
	done
} | tee var/bench-provision.md
mv var/bench-provision.md "$out"
