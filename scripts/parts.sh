# Sourced: runs the parts of a check one after another and prints how long each took.
part_names=() part_times=()
part() {
	local name=$1 start=$SECONDS
	shift
	say "$name"
	"$@" || die "$name failed"
	part_names+=("$name") part_times+=($((SECONDS - start)))
}
parts_summary() {
	local i total=0
	printf '\n%-40s %6s\n' part seconds
	for i in "${!part_names[@]}"; do
		printf '%-40s %6d\n' "${part_names[$i]}" "${part_times[$i]}"
		total=$((total + part_times[i]))
	done
	printf '%-40s %6d\n' total "$total"
}
