#!/usr/bin/env bash
# 10,000 simulated guests over TLS against broker, conductor and store: at rest, beside guests that misbehave, after a restart, and at the limit. The result goes
# to docs/evidence. About eight minutes; the machine should have nothing else to do.
source "$(dirname "$0")/lib.sh"
[ "$(ulimit -n)" -ge 12000 ] || ulimit -n 20000 || die "each guest is a connection: raise the limit of open files (ulimit -n 20000)."
mkdir -p var docs/evidence
rm -f var/fleet-*.log
go build -o var/fleet-bench ./tests/fleet
out=var/bench-fleet.md
{
	echo "# A fleet of guests"
	echo
	echo "Command: \`make bench-fleet\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores shared with the guests, kernel $(uname -r)."
	echo "Guests are connections of the agent's own kind in four child processes; broker, conductor and SQLite (\`synchronous=FULL\`) are in a fifth."
	echo
} >"$out"
code=0
var/fleet-bench -guests "${BENCH_GUESTS:-10000}" | tee -a "$out" || code=$?
[ "$code" = 0 ] || die "a limit was not kept; what the processes said is in var/fleet-*.log"
mv "$out" docs/evidence/bench-fleet.md
