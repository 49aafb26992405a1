#!/usr/bin/env bash
# gotest.sh NAME ARGUMENTS...: go test with a short report; the result stays in var/test-NAME.json. A skipped test fails the run unless its name is in
# tests/allowed-skips.txt, or in the file that ALLOWED_SKIPS names.
source "$(dirname "$0")/lib.sh"
name=$1
allowed=${ALLOWED_SKIPS:-tests/allowed-skips.txt}
shift
mkdir -p var
json=var/test-$name.json
bin/tools/gotestsum --format pkgname-and-test-fails --hide-summary=skipped --jsonfile "$json" -- "$@"
skips=$(grep -h '"Action":"skip"' "$json" | grep -o '"Test":"[^"]*"' | cut -d'"' -f4 | sort -u | grep -vxFf <(grep -v '^#' "$allowed") || true)
[ -z "$skips" ] || die "skipped, and not allowed to be ($allowed): $skips"
