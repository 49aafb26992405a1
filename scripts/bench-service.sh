#!/usr/bin/env bash
# Figures of the whole service, as docs/performance.md shows them: memory at rest, first answer after a start, lists over 10,000 rows, the command
# line's list, the agent's memory. The result goes to docs/evidence.
source "$(dirname "$0")/lib.sh"
need_root
scripts/install-packages.sh test
state=$PWD/var/bench-service listen=${BENCH_LISTEN:-127.0.0.1:18780}
make -s build
go build -o var/fillstore ./tests/fillstore
export TROVE_CACHE=$PWD/var/cache TROVE_API_RATE_LIMIT=0
trove() { bin/trove "$@"; }
trove image build --state "$state" --datastore mariadb --datastore-version 10.11
trove dev start --state "$state" --listen "$listen"
trap 'bin/trove dev destroy --state "$state" --force' EXIT
# shellcheck disable=SC1090,SC1091
. "$state/openrc"

resident() { awk '/^VmRSS/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"; }
pid() { cat "$state/trove.pid"; }
out=var/bench-service.md
{
	echo "# Figures of the whole service"
	echo
	echo "Command: \`scripts/bench-service.sh\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores, kernel $(uname -r)."
	echo
	echo "| what | figure |"
	echo "| --- | --- |"

	trove instance create bench --flavor db.tiny --size 1 --wait >/dev/null
	sleep 70 # at rest: timers have run, the collector too
	echo "| control plane resident at rest, one instance | $(resident "$(pid)") MiB |"
	agents=$(pgrep -f '^/agent/trove-guestagent agent' | head -1)
	inits=$(pgrep -f '^/agent/trove-guestagent init' | head -1)
	echo "| agent and its init resident at rest | $(resident "$agents") + $(resident "$inits") MiB |"
	trove instance list >/dev/null
	hyperfine -N --warmup 5 --runs 50 --export-json var/hyperfine.json 'bin/trove instance list' >/dev/null 2>&1
	jq -r '.results[0] | "| `trove instance list` as a whole process, cached token | \(.mean * 1000 * 10 | round / 10) ms (max \(.max * 1000 * 10 | round / 10)) |"' var/hyperfine.json
	trove instance delete bench --wait 2>/dev/null

	for i in 1 2 3 4 5; do
		trove dev stop --state "$state"
		begin=$(date +%s%N)
		trove dev start --state "$state" --listen "$listen" 2>/dev/null &
		until curl -fsS "http://$listen/" -o /dev/null 2>/dev/null; do sleep 0.005; done
		echo $(((($(date +%s%N) - begin)) / 1000000))
		wait $!
	done | sort -n | sed -n 3p | sed 's/.*/| first answer after start, median of 5 | & ms |/'

	trove dev stop --state "$state"
	var/fillstore -state "$state" -n 10000
	env GOMAXPROCS=1 taskset -c 0 bin/trove dev start --state "$state" --listen "$listen"
	project=$(trove quota show -f value >/dev/null && curl -s -D - -o /dev/null -H 'Content-Type: application/json' "http://$listen/identity/v3/auth/tokens" -d @<(
		printf '{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"%s","domain":{"name":"Default"},"password":"%s"}}},"scope":{"project":{"name":"%s","domain":{"name":"Default"}}}}}' \
			"$OS_USERNAME" "$OS_PASSWORD" "$OS_PROJECT_NAME"
	) | tr -d '\r' | awk 'tolower($1) == "x-subject-token:" { print $2 }')
	umask 077
	printf 'wrk.headers["X-Auth-Token"] = "%s"\n' "$project" >var/wrk.lua
	id=$(curl -s -H @<(printf 'X-Auth-Token: %s' "$project") "http://$listen/identity/v3/auth/projects" | jq -r '.projects[0].id')
	for path in "instances?limit=20" "instances/$(trove instance list -f value -c id | head -1)"; do
		rate=$(taskset -c 1 wrk -t1 -c8 -d10s -s var/wrk.lua "http://$listen/v1.0/$id/$path" | tee var/wrk.txt | awk '/Requests\/sec/ { printf "%.0f", $2 }')
		grep -q 'Non-2xx' var/wrk.txt && die "wrk was refused: $(grep Non-2xx var/wrk.txt)"
		echo "| \`GET /${path%%/*}$([[ $path == */* ]] && echo '/{id}')\` over 10,000 rows, GOMAXPROCS=1 on one core, wrk on the other | $rate/s |"
	done
	rm -f var/wrk.lua
} | tee "$out"
mkdir -p docs/evidence && mv "$out" docs/evidence/bench-service.md
