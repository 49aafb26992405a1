#!/usr/bin/env bash
# The benchmarks behind docs/performance.md, three times each; the result goes to docs/evidence.
source "$(dirname "$0")/lib.sh"
mkdir -p docs/evidence
{
	echo "# Benchmarks of the packages"
	echo
	echo "Command: \`scripts/bench-packages.sh\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores, kernel $(uname -r)."
	echo
	echo '```'
	go test -run '^$' -bench 'StoreAccept|StoreRead|DurableStep|Enqueue|InstancesPage|Create|Heartbeat|EnsureInstance|List|Request|FirstStart' -count 3 -benchtime 500ms \
		./store/sqlstore ./internal/workflow ./taskmanager ./conductor ./api ./cloud/local/hostnet ./bus/natsbus/... ./cloud/local ./engine/mariadb
	echo '```'
} | tee var/bench-packages.md
mv var/bench-packages.md docs/evidence/bench-packages.md
