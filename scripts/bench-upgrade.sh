#!/usr/bin/env bash
# A change of datastore version and the way back, with 1 GB of data and a client that writes 20 times a second, on a deployment of its own; the result goes to
# docs/evidence.
source "$(dirname "$0")/lib.sh"
need_root
state=var/bench-upgrade
make -s build
mkdir -p docs/evidence
go build -o var/upgrade ./tests/upgrade
export TROVE_CACHE=$PWD/var/cache TROVE_API_RATE_LIMIT=0
for image in "mariadb 10.11" "mariadb 11.8" "postgresql 15" "postgresql 17"; do
	read -r datastore version <<<"$image"
	bin/trove image build --state "$state" --datastore "$datastore" --datastore-version "$version"
done
bin/trove dev start --state "$state" --listen "${BENCH_LISTEN:-127.0.0.1:18781}"
trap 'bin/trove dev destroy --state "$state" --force' EXIT
# shellcheck disable=SC1091
. "$state/openrc"
{
	echo "# Upgrades: how long writes wait, and that the rows stay"
	echo
	echo "Command: \`scripts/bench-upgrade.sh\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores, kernel $(uname -r)."
	echo
	var/upgrade -mib "${BENCH_MIB:-1024}" -gap "${BENCH_GAP:-0s}"
	echo
	var/upgrade -datastore postgresql -from 15 -to 17 -mib "${BENCH_MIB:-1024}" -gap "${BENCH_GAP:-0s}"
	echo
	echo "Each write that was acknowledged is there after the upgrade; after the way back those of before the upgrade are, and those that came later."
} | tee var/bench-upgrade.md
mv var/bench-upgrade.md docs/evidence/upgrade.md
