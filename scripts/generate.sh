#!/usr/bin/env bash
# Writes what is generated. With --check it writes it beside and fails if the committed files differ.
source "$(dirname "$0")/lib.sh"

write() {
	go generate ./...
	go run ./cmd/trove config docs >docs/operators/configuration.md
	go run ./cmd/trove config sample >docs/operators/trove-openstack.yaml
	TROVE_UPDATE_MODULES=1 go test -count=1 -run TestLinkedModules ./internal/app ./internal/guestapp >/dev/null
}

if [ "${1:-}" != --check ]; then
	write
	exit 0
fi
generated=(api/openapi.yaml docs/api.md docs/coverage.md docs/operators/configuration.md docs/operators/trove-openstack.yaml internal/app/modules.txt internal/guestapp/modules.txt)
keep=$(mktemp -d)
trap 'rm -rf "$keep"' EXIT
tar cf "$keep/before.tar" "${generated[@]}"
write
mkdir "$keep/before"
tar xf "$keep/before.tar" -C "$keep/before"
stale=0
for f in "${generated[@]}"; do
	cmp -s "$f" "$keep/before/$f" || {
		echo "$f was not fresh; it is now: commit it (make generate)" >&2
		stale=1
	}
done
exit $stale
