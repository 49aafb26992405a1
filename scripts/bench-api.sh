#!/usr/bin/env bash
# trove-api on one processor with wrk on the other: version document, lists over 10, 1,000 and 10,000 rows, single reads, groups and instances made, on SQLite and
# PostgreSQL. The result goes to docs/evidence. About three minutes; the machine should have nothing else to do.
source "$(dirname "$0")/lib.sh"
need_root
scripts/install-packages.sh test
make -s build
mkdir -p var docs/evidence
out=$PWD/var/bench-api.md
{
	echo "# trove-api under load"
	echo
	echo "Command: \`make bench-api\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores, kernel $(uname -r). The API has GOMAXPROCS=1 and one core,"
	echo "wrk the other one (\`-t1 -c8 -d10s\`); SQLite with \`synchronous=FULL\`, PostgreSQL with fsync, which shares the cores with both."
} >"$out"
code=0
go test ./tests/apibench -run '^$' -bench . -benchtime 1x -timeout 20m -args -evidence "$out" -program "$PWD/bin/trove" || code=$?
[ "$code" = 0 ] || die "a limit was not kept; see $out"
mv "$out" docs/evidence/bench-api.md
