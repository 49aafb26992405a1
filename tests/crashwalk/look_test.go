package crashwalk_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	_ "github.com/trove-dbaas/trove/store/sqlstore" // the driver
	"github.com/trove-dbaas/trove/tests/hostcheck"
)

// view is what a deployment has, with names that are the same in every round.
type view struct {
	host  []string // mounts, loop devices, links, groups, processes, directories
	rules string   // of the packet filter
}

// hash is the part that the names of a deployment's things on the host have in common.
func (w *walker) hash() string {
	w.t.Helper()
	sum := sha256.Sum256([]byte(w.State))
	return hex.EncodeToString(sum[:4])
}

var instanceID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// onHost returns what the host has of this deployment. Other deployments on the machine do not matter.
func (w *walker) onHost() []string {
	w.t.Helper()
	hash := w.hash()
	port := regexp.MustCompile(`^link tv` + hash + `[0-9a-zA-Z]{4}$`)
	var all []string
	for _, l := range hostcheck.Take(context.Background(), w.t) {
		if !strings.Contains(l, hash) && !strings.Contains(l, w.State+"/") {
			continue
		}
		if strings.HasPrefix(l, "cgroup ") && filepath.Base(l) == "trove-"+hash {
			continue // of the deployment itself: made with the first instance
		}
		if strings.HasPrefix(l, "loop "+filepath.Join(w.State, "shelf")) {
			continue // a spare volume that is just being made
		}
		l = instanceID.ReplaceAllString(l, "ID")
		all = append(all, port.ReplaceAllString(l, "link of a port"))
	}
	for _, dir := range []string{filepath.Join(w.State, "instances"), filepath.Join("/run", "trove-"+hash, "i"), filepath.Join("/run", "trove-"+hash, "netns")} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			all = append(all, "file "+filepath.Join(dir, instanceID.ReplaceAllString(e.Name(), "ID")))
		}
	}
	all = append(all, w.processes()...)
	slices.Sort(all)
	return all
}

// ended matches the state of a process that has ended and that the machine's init has not collected yet, which is init's affair.
var ended = regexp.MustCompile(`\) Z 1 `)

// processes returns the programs that run in the deployment's control groups.
func (w *walker) processes() []string {
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	var all []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(data), "/trove-"+w.hash()+"/") {
			continue
		}
		if stat, err := os.ReadFile(filepath.Join(filepath.Dir(f), "stat")); err != nil || ended.Match(stat) {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "comm"))
		all = append(all, "process "+strings.TrimSpace(string(name)))
	}
	return all
}

// filter returns the deployment's rules without counters.
func (w *walker) filter() string {
	w.t.Helper()
	var all strings.Builder
	for _, l := range hostcheck.Take(context.Background(), w.t) {
		name, isTable := strings.CutPrefix(l, "nft table ")
		if !isTable || !strings.Contains(name, w.hash()) {
			continue
		}
		out, err := exec.CommandContext(w.t.Context(), "nft", append([]string{"-s", "list", "table"}, strings.Fields(name)...)...).CombinedOutput()
		if err != nil {
			w.t.Fatalf("list the rules: %v %s", err, out)
		}
		all.Write(out)
	}
	return all.String()
}

func (w *walker) look() view {
	w.t.Helper()
	return view{host: w.onHost(), rules: w.filter()}
}

// sameOnHost checks that the host has what it had. What ends in the background has a moment.
func (w *walker) sameOnHost(at string, want view) {
	w.t.Helper()
	var diff string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if diff = cmp.Diff(want.host, w.onHost()); diff == "" {
			return
		}
	}
	w.t.Fatalf("%s: the host has something else: -want +got\n%s", at, diff)
}

// same checks that nothing is left: on the host, in the quotas, in the store.
func (w *walker) same(at string, want view) {
	w.t.Helper()
	w.sameOnHost(at, want)
	if diff := cmp.Diff(want.rules, w.filter()); diff != "" {
		w.t.Errorf("%s: the packet filter has other rules: -want +got\n%s", at, diff)
	}
	w.quotas(at)
	w.rows(at)
}

// quotas checks that what the project uses is what its instances have.
func (w *walker) quotas(at string) {
	w.t.Helper()
	all, err := w.Client.AllInstances(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	want := map[string]int{"instances": len(all), "volumes": 0, "backups": 0}
	ram := map[string]int{}
	flavors, err := w.Client.Flavors(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range flavors {
		ram[f.StrID] = f.RAM
	}
	for _, i := range all {
		want["volumes"] += i.Volume.Size
		want["ram"] += ram[i.Flavor.ID]
	}
	quotas, err := w.Client.Quotas(w.t.Context(), w.project)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, q := range quotas {
		if q.InUse != want[q.Resource] || q.Reserved != 0 {
			w.t.Errorf("%s: quota of %s: %d are in use, the instances have %d; %d are reserved", at, q.Resource, q.InUse, want[q.Resource], q.Reserved)
		}
	}
}

// rows checks that the store has nothing without an owner.
func (w *walker) rows(at string) {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.State, "store.db")+"?_pragma=query_only(1)&_pragma=busy_timeout(5000)")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for what, query := range map[string]string{
		"open operations":                "SELECT COUNT(*) FROM operation WHERE state='open' OR owner<>''",
		"locks":                          "SELECT COUNT(*) FROM operation_lock",
		"states of guests that are gone": "SELECT COUNT(*) FROM guest_state WHERE instance_id NOT IN (SELECT id FROM instance WHERE deleted=0)",
		"guests that are gone":           "SELECT COUNT(*) FROM guest WHERE instance_id NOT IN (SELECT id FROM instance WHERE deleted=0)",
		"reports of those":               "SELECT COUNT(*) FROM report WHERE instance_id NOT IN (SELECT id FROM instance WHERE deleted=0)",
		"operations without a timeline":  "SELECT COUNT(*) FROM operation WHERE id NOT IN (SELECT operation_id FROM operation_log)",
	} {
		var n int
		if err := db.QueryRowContext(w.t.Context(), query).Scan(&n); err != nil {
			w.t.Fatal(fmt.Errorf("%s: %w", what, err))
		}
		if n > 0 {
			w.t.Errorf("%s: the store has %d %s", at, n, what)
		}
	}
}
