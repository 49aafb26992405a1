#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz target for that long. When the time is over Go may call that a failure, "context deadline exceeded", mostly on a busy machine
# (golang.org/issue/75804, mended in Go 1.27). It then has no input that fails, and the target is run again.
source "$(dirname "$0")/lib.sh"
each=${1:-30s}
count=0
said=$(mktemp)
trap 'rm -f "$said"' EXIT
# fuzz PACKAGE TARGET: what it says is in $said.
fuzz() {
	for _ in 1 2 3; do
		! go test -run '^$' -fuzz "^$2\$" -fuzztime "$each" "$1" >"$said" 2>&1 || return 0
		grep -qx '    context deadline exceeded' "$said" && ! grep -q 'Failing input written to' "$said" || return 1
	done
	return 1
}
while IFS=: read -r file target; do
	say "$(dirname "$file") $target"
	failed=
	fuzz "./$(dirname "$file")" "$target" || failed=yes
	grep -v '^fuzz: elapsed' "$said" || true
	[ -z "$failed" ] || die "$target of $file failed; its input is below testdata/fuzz"
	count=$((count + 1))
done < <(git ls-files '*_test.go' | xargs grep -Ho '^func Fuzz[A-Za-z0-9_]*' | sed 's/:func /:/')
[ "$count" -gt 0 ] || die "no fuzz target was found"
