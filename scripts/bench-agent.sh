#!/usr/bin/env bash
# What the guest agent costs beside its engine under the engine's usual benchmark, for every engine and version; the result goes to docs/evidence. Minutes.
source "$(dirname "$0")/lib.sh"
need_root
scripts/install-packages.sh bench
state=var/bench-agent
make -s build
go build -o var/agentcost ./tests/agentcost
export TROVE_CACHE=$PWD/var/cache TROVE_API_RATE_LIMIT=0
bin/trove dev start --state "$state" --listen "${BENCH_LISTEN:-127.0.0.1:18779}"
trap 'bin/trove dev destroy --state "$state" --force' EXIT
# shellcheck disable=SC1091
. "$state/openrc"
{
	echo "# What the guest agent costs"
	echo
	echo "Command: \`make bench-agent\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores, kernel $(uname -r)."
	echo
	echo "| engine | load | took | engine's processor time | agent's | agent over engine | agent and init resident |"
	echo "| --- | --- | --- | --- | --- | --- | --- |"
	for recipe in image/recipes/*.json; do
		datastore=$(jq -r .datastore "$recipe") version=$(jq -r .version "$recipe")
		bin/trove image build --state "$state" --datastore "$datastore" --datastore-version "$version" >&2
		for _ in $(seq 40); do # the service looks every two seconds
			bin/trove datastore version show "$datastore" "$version" >/dev/null 2>&1 && break
			sleep 0.5
		done
		var/agentcost -datastore "$datastore" -datastore-version "$version" -limit "${BENCH_LIMIT:-1}" -seconds "${BENCH_SECONDS:-20}"
	done
} | tee var/bench-agent.md
mv var/bench-agent.md docs/evidence/bench-agent.md
