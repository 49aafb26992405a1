#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz target for that long.
source "$(dirname "$0")/lib.sh"
each=${1:-30s}
count=0
while IFS=: read -r file target; do
	say "$(dirname "$file") $target"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$each" "./$(dirname "$file")" | grep -v '^fuzz: elapsed' || die "$target of $file failed; its input is below testdata/fuzz"
	count=$((count + 1))
done < <(git ls-files '*_test.go' | xargs grep -Ho '^func Fuzz[A-Za-z0-9_]*' | sed 's/:func /:/')
[ "$count" -gt 0 ] || die "no fuzz target was found"
