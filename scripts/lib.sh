# Sourced by the other scripts: messages, and where things are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}
need_root() {
	[ "$(id -u)" = 0 ] || die "this needs root: sandboxes, volumes and networks are made on this machine. Run it with sudo."
}
