#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz target for that long.
source "$(dirname "$0")/lib.sh"
each=${1:-30s}
for package in $(go list ./...); do
	dir=.${package#github.com/trove-dbaas/trove}
	grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go 2>/dev/null | sed 's/func //' | while read -r target; do
		say "$package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$each" "$dir"
	done
done
