#!/usr/bin/env bash
# Fills the volume of a real server in each way that there is, FILLS times each (5), grows it and counts the rows; root. The result goes to docs/evidence.
source "$(dirname "$0")/lib.sh"
need_root
mkdir -p docs/evidence var
status=0
TROVE_FILLS="${FILLS:-5}" go test -count=1 -timeout 60m -v ./tests/fullvolume >var/full-volume.log 2>&1 || status=$?
{
	echo "# Full volumes"
	echo
	echo "Command: \`scripts/full-volume.sh\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores, kernel $(uname -r)."
	echo
	echo 'A volume of 512 MiB is filled until the server refuses; writers go on for five seconds; then it grows to 2 GiB, and nobody does anything more. "back" counts from the growth to the first row that is taken.'
	echo
	echo '```'
	grep -E '^ *(--- |fullvolume_test.go)|^=== RUN' var/full-volume.log | sed -e 's/^ *fullvolume_test.go:[0-9]*:/   /'
	echo '```'
} >var/full-volume.md
mv var/full-volume.md docs/evidence/full-volume.md
exit "$status"
