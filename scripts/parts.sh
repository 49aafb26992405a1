# Sourced: runs the parts of a check one after another and prints how long each took. What mostly waits can run beside the others.
part_names=() part_times=()
part() {
	local name=$1 start=$SECONDS
	shift
	say "$name"
	"$@" || part_failed "$name"
	part_names+=("$name") part_times+=($((SECONDS - start)))
}
# part_failed NAME: ends the run, and says what the machine had left: it is seldom seen again.
part_failed() {
	say "what this machine has"
	df -h --output=target,size,avail,pcent,fstype . "${TMPDIR:-/tmp}" /run >&2 || true
	grep -E '^(MemTotal|MemAvailable|SwapFree):' /proc/meminfo >&2 || true
	die "$1 failed"
}
# beside NAME COMMAND...: starts a part; what it prints is shown by join_beside, which waits for it.
beside() {
	beside_name=$1 beside_start=$SECONDS beside_log=var/beside.log
	shift
	say "$beside_name, beside what follows"
	mkdir -p var
	"$@" >"$beside_log" 2>&1 &
	beside_pid=$!
	trap 'kill "$beside_pid" 2>/dev/null || true' EXIT
}
join_beside() {
	local status=0
	wait "$beside_pid" || status=$?
	trap - EXIT
	say "$beside_name"
	cat "$beside_log"
	[ "$status" = 0 ] || part_failed "$beside_name"
	part_names+=("$beside_name, beside the one above") part_times+=($((SECONDS - beside_start)))
}
parts_summary() {
	local i
	printf '\n%-60s %6s\n' part seconds
	for i in "${!part_names[@]}"; do
		printf '%-60s %6d\n' "${part_names[$i]}" "${part_times[$i]}"
	done
	printf '%-60s %6d\n' total "$SECONDS"
}
