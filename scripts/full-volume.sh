#!/usr/bin/env bash
# Fills the volume of a real server in each way that there is, FILLS times each (5), grows it and counts the rows; root. The result goes to docs/evidence.
# PRODUCT=postgresql takes one product alone and writes a page of its own.
source "$(dirname "$0")/lib.sh"
need_root
mkdir -p docs/evidence var
status=0
product=${PRODUCT:-} page=full-volume${PRODUCT:+-$PRODUCT}
TROVE_FILLS="${FILLS:-5}" go test -count=1 -timeout 60m -v -run "TestServerComesBackFromAFullVolume/${product:-.}" ./tests/fullvolume >"var/$page.log" 2>&1 || status=$?
{
	echo "# Full volumes${product:+ of $product}"
	echo
	echo "Command: \`${product:+PRODUCT=$product }scripts/full-volume.sh\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores, kernel $(uname -r)."
	echo
	echo 'A volume of 512 MiB is filled until the server refuses; writers go on for five seconds; then it grows to 2 GiB, and nobody does anything more. "back" counts from the growth to the first row that is taken.'
	echo
	echo '```'
	grep -E '^ *(--- |fullvolume_test.go)|^=== RUN' "var/$page.log" | sed -e 's/^ *fullvolume_test.go:[0-9]*:/   /'
	echo '```'
} >"var/$page.md"
mv "var/$page.md" "docs/evidence/$page.md"
exit "$status"
