package e2e_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/tests/hostcheck"
)

// hash is the part that the names of a deployment's things on the host have in common.
func (d *deployment) hash() string {
	d.t.Helper()
	state, err := filepath.EvalSymlinks(d.state)
	if err != nil {
		d.t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(state))
	return hex.EncodeToString(sum[:4])
}

// processes returns the process ids of the control plane, of everything in the sandboxes, and of what just makes one.
func (d *deployment) processes() []int {
	d.t.Helper()
	var all []int
	for _, pattern := range []string{"/sys/fs/cgroup/trove-%s", "/sys/fs/cgroup/*/trove-%s"} {
		roots, _ := filepath.Glob(fmt.Sprintf(pattern, d.hash()))
		for _, root := range roots {
			_ = filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
				if err == nil && filepath.Base(path) == "cgroup.procs" {
					data, _ := os.ReadFile(path)
					for word := range strings.FieldsSeq(string(data)) {
						if pid, err := strconv.Atoi(word); err == nil {
							all = append(all, pid)
						}
					}
				}
				return nil
			})
		}
	}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		data, _ := os.ReadFile(file)
		words := strings.Split(string(data), "\x00")
		ours := slices.ContainsFunc(words, func(w string) bool {
			return w == d.state || strings.HasPrefix(w, "/run/trove-"+d.hash()) || strings.HasPrefix(w, d.state+"/")
		})
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && ours && pid != os.Getpid() {
			all = append(all, pid)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// cut takes away what a machine loses when its power goes: every process at once, what was written to the volumes' file systems and not flushed, and all that is
// not on the disk of the state directory.
func (d *deployment) cut() {
	d.t.Helper()
	run := "/run/trove-" + d.hash()
	for end := time.Now().Add(30 * time.Second); ; {
		pids := d.processes()
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if time.Now().After(end) {
			d.t.Fatalf("processes %v do not end", pids)
		}
		time.Sleep(5 * time.Millisecond)
	}
	d.unmountAll(run)
	for _, l := range hostcheck.Take(d.t.Context(), d.t) {
		what, name, _ := strings.Cut(l, " ")
		switch {
		case what == "link" && strings.HasPrefix(name, "tv"+d.hash()):
			_ = exec.CommandContext(d.t.Context(), "ip", "link", "delete", name).Run() // its other end is gone with the first
		case what == "nft" && strings.Contains(name, d.hash()):
			d.command("nft", append([]string{"delete"}, strings.Fields(name)...)...)
		}
	}
	d.removeGroups()
	links, _ := filepath.Glob("/run/trove-ids/*")
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && strings.HasPrefix(target, run) {
			_ = os.Remove(l)
		}
	}
	if err := os.RemoveAll(run); err != nil {
		d.t.Fatal(err)
	}
	// The machine is another one for the service, which tries it out once for each boot.
	_ = os.Remove(filepath.Join(d.state, "probed"))
	for _, l := range hostcheck.Take(d.t.Context(), d.t) {
		if strings.Contains(l, d.hash()) || strings.HasPrefix(l, "loop "+d.state) {
			d.t.Errorf("a restart of the machine would not leave this: %s", l)
		}
	}
}

// unmountAll unmounts everything below a directory. The xfs ones are shut down before, so that nothing is flushed that the database did not ask for.
func (d *deployment) unmountAll(below string) {
	d.t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		d.t.Fatal(err)
	}
	var targets []string
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if strings.HasPrefix(f[4], below+"/") {
			targets = append(targets, f[4])
			if strings.Contains(line, " - xfs ") {
				d.shutDown(f[4])
			}
		}
	}
	for _, target := range slices.Backward(targets) {
		if err := unix.Unmount(target, 0); err != nil {
			d.t.Errorf("unmount %s: %v", target, err)
		}
	}
}

// shutDown makes an xfs file system stop as a power cut does: what is not in its log on the disk is lost.
func (d *deployment) shutDown(mount string) {
	d.t.Helper()
	const goingDown, noLogFlush = 0x8004587d, 2 // XFS_IOC_GOINGDOWN, XFS_FSOP_GOING_FLAGS_NOLOGFLUSH
	dir, err := os.Open(mount)
	if err != nil {
		d.t.Fatal(err)
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), goingDown, noLogFlush); err != nil {
		d.t.Fatalf("shut down %s: %v", mount, err)
	}
}

func (d *deployment) removeGroups() {
	d.t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/trove-%s", "/sys/fs/cgroup/*/trove-%s"} {
		roots, _ := filepath.Glob(fmt.Sprintf(pattern, d.hash()))
		for _, root := range roots {
			var dirs []string
			_ = filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
				if err == nil && e.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
			for _, dir := range slices.Backward(dirs) {
				eventually(d.t, patience, "the control group "+dir+" to be removed", func() bool {
					err := os.Remove(dir)
					return err == nil || os.IsNotExist(err)
				})
			}
		}
	}
}

func (d *deployment) command(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.CommandContext(d.t.Context(), name, args...).CombinedOutput(); err != nil {
		d.t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// startAgain starts a shared deployment that was ended by the test.
func (d *deployment) startAgain() {
	d.t.Helper()
	if err := d.start(); err != nil {
		d.t.Fatal(err)
	}
	*shared.d = deployment{state: d.state, listen: d.listen, client: d.client, env: d.env}
}

// writeUntil inserts numbers, one transaction each, until an insert fails. It returns how many the database has confirmed.
func writeUntil(t testing.TB, db *sql.DB) (confirmed func() int64) {
	t.Helper()
	mustExec(t, db, "CREATE TABLE numbers (n INT PRIMARY KEY)")
	var last atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := int64(1); ; n++ {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			_, err := db.ExecContext(ctx, "INSERT INTO numbers VALUES (?)", n)
			cancel()
			if err != nil {
				return
			}
			last.Store(n)
		}
	}()
	eventually(t, patience, "the first rows to be written", func() bool { return last.Load() > 20 })
	return func() int64 {
		<-done
		return last.Load()
	}
}

// rebootLimit is how long after the start of the service all databases may take to answer.
const rebootLimit = 60 * time.Second

// TestARestartOfTheMachineBringsEveryInstanceBack cuts the power under databases that write and under a create; the next start brings all of them
// back with every row that was confirmed. One that was stopped on purpose stays so.
func TestARestartOfTheMachineBringsEveryInstanceBack(t *testing.T) {
	d := sharedDeployment(t)
	names := []string{"reboot-1", "reboot-2"}
	confirmed := map[string]func() int64{}
	for _, name := range names {
		i := d.create(name)
		confirmed[i.ID] = writeUntil(t, open(t, i, "app", password, "app"))
	}
	stopped := d.create("reboot-stopped")
	d.trove("instance", "stop", stopped.ID, "--wait")
	out, err := d.tryInput(password+"\n", "instance", "create", "reboot-flight", "--flavor", "db.tiny", "--size", "1", "--database", "app",
		"--user", "app", "--password-file", "-", "-f", "value", "-c", "id")
	if err != nil {
		t.Fatal(err)
	}
	flight := strings.TrimSpace(out)
	t.Cleanup(func() { d.remove(flight) })

	d.cut()
	wrote := map[string]int64{}
	for id, f := range confirmed {
		wrote[id] = f()
	}
	started := time.Now()
	d.startAgain()
	for id, want := range wrote {
		var got int64
		eventually(t, rebootLimit, "the database of "+id+" to answer", func() bool {
			db := open(t, d.instance(id), "app", password, "app")
			return db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM numbers WHERE n <= ?", want).Scan(&got) == nil
		})
		if got != want {
			t.Errorf("instance %s has %d of the %d rows that were confirmed", id, got, want)
		}
	}
	for _, id := range append(slices.Collect(maps.Keys(wrote)), flight) {
		eventually(t, rebootLimit, "instance "+id+" to be ACTIVE and HEALTHY", func() bool {
			i := d.instance(id)
			return i.Status == "ACTIVE" && i.OperatingStatus == "HEALTHY"
		})
	}
	t.Logf("all were back %s after the start, rows confirmed before the cut: %v", time.Since(started).Round(time.Millisecond), wrote)
	if err := open(t, d.instance(flight), "app", password, "app").PingContext(t.Context()); err != nil {
		t.Errorf("the instance whose create was under way: %v", err)
	}
	d.expectStopped(stopped.ID)
	d.trove("instance", "start", stopped.ID, "--wait")
	if err := open(t, d.instance(stopped.ID), "app", password, "app").PingContext(t.Context()); err != nil {
		t.Errorf("the instance that was stopped on purpose: %v", err)
	}
}
