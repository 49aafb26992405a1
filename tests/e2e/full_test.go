package e2e_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/client"
)

// writer20Hz inserts a row every 50 ms until the returned function is called, which says how many failed and checks that the others are there.
func writer20Hz(t testing.TB, db *sql.DB) func() int {
	t.Helper()
	mustExec(t, db, "CREATE TABLE beats (n INT PRIMARY KEY AUTO_INCREMENT, at TIMESTAMP)")
	var failed, done atomic.Int32
	ended, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if _, err := db.Exec("INSERT INTO beats () VALUES ()"); err != nil {
				t.Logf("insert failed: %v", err)
				failed.Add(1)
				continue
			}
			done.Add(1)
		}
	}()
	var once sync.Once
	end := func() { once.Do(func() { close(stop); <-ended }) }
	t.Cleanup(end)
	return func() int {
		end()
		if got := queryString(t, db, "SELECT COUNT(*) FROM beats"); got != fmt.Sprint(done.Load()) || done.Load() == 0 {
			t.Errorf("%s rows are there, %d inserts were confirmed", got, done.Load())
		}
		return int(failed.Load())
	}
}

// fillUp inserts rows until the server refuses one, and returns what it said. Large rows go first, small ones fill what is left: a large row that finds no room half way
// has to be rolled back, and InnoDB needs room for that.
func (d *deployment) fillUp(id string, db *sql.DB) error {
	d.t.Helper()
	mustExec(d.t, db, "CREATE TABLE IF NOT EXISTS big (n INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)")
	for freeBytes(d.t, d.dataOf(id)) > 24<<20 {
		mustExec(d.t, db, "INSERT INTO big (b) VALUES (REPEAT('x', 4194304))")
	}
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
		_, err := db.ExecContext(ctx, "INSERT INTO big (b) VALUES (REPEAT('x', 7000))")
		cancel()
		if err != nil {
			return err
		}
	}
	d.t.Fatal("the volume did not become full")
	return nil
}

// TestFullVolumeGrowsOnline: a tenant writes its volume full. Its neighbours notice nothing, its guest takes commands, and after a growth through the API the same
// server process writes on.
func TestFullVolumeGrowsOnline(t *testing.T) {
	d := sharedDeployment(t)
	i, neighbour := d.create("full-1"), d.create("full-neighbour")
	stop := writer20Hz(t, open(t, neighbour, "app", password, "app"))
	db := open(t, i, "app", password, "app")
	started := startOf(t, db)
	t.Logf("the full server says: %v", d.fillUp(i.ID, db))
	if free := freeBytes(t, d.dataOf(i.ID)); free > 8<<20 {
		t.Fatalf("the volume is not full: %d bytes are free", free)
	}
	d.trove("database", "list", i.ID)
	d.trove("instance", "resize", "volume", i.ID, "2", "--wait") // the agent writes it down on the full volume
	eventually(t, 30*time.Second, "the server to write again", func() bool {
		_, err := db.ExecContext(t.Context(), "INSERT INTO big (b) VALUES (REPEAT('y', 4194304))")
		return err == nil
	})
	if now := startOf(t, db); now < started-1 || now > started+1 {
		t.Errorf("the server was restarted: it runs since %d, before since %d", now, started)
	}
	if failed := stop(); failed > 0 {
		t.Errorf("%d inserts of the neighbour failed", failed)
	}
	if i = d.instance(i.ID); i.Volume.Size != 2 || i.Status != "ACTIVE" {
		t.Errorf("size %d, status %s", i.Volume.Size, i.Status)
	}
}

// TestServerThatDiedOfAFullVolume: InnoDB ends itself when a rollback finds no room. After a growth it is back by itself, with every row that it had confirmed.
func TestServerThatDiedOfAFullVolume(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("full-2")
	db := open(t, i, "app", password, "app")
	mustExec(t, db, "CREATE TABLE big (n INT PRIMARY KEY AUTO_INCREMENT, late BOOL, b LONGBLOB)")
	confirmed := 0
	var refusal error
	for refusal == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if _, refusal = db.ExecContext(ctx, "INSERT INTO big (late, b) VALUES (FALSE, REPEAT('x', 4194304))"); refusal == nil {
			confirmed++
		}
		cancel()
	}
	t.Logf("after %d rows the server says: %v; the instance is %s", confirmed, refusal, d.instance(i.ID).OperatingStatus)
	d.trove("instance", "resize", "volume", i.ID, "2", "--wait")
	eventually(t, patience, "the server to write again", func() bool {
		_, err := db.ExecContext(t.Context(), "INSERT INTO big (late, b) VALUES (TRUE, 'after')")
		return err == nil
	})
	if got := queryString(t, db, "SELECT COUNT(*) FROM big WHERE NOT late"); got != fmt.Sprint(confirmed) {
		t.Errorf("%s rows are there, %d were confirmed", got, confirmed)
	}
	eventually(t, patience, "the instance to be healthy", func() bool { return d.instance(i.ID).OperatingStatus == "HEALTHY" })
}

// dataOf returns where the instance's volume is mounted.
func (d *deployment) dataOf(id string) string {
	d.t.Helper()
	found, err := filepath.Glob("/run/trove-*/i/" + id + "/data")
	if err != nil || len(found) != 1 {
		d.t.Fatalf("the volume of %s is at %v, %v", id, found, err)
	}
	return found[0]
}

func freeBytes(t testing.TB, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// smallDisk mounts a file system of its own at dir. Its backing file is sparse.
func smallDisk(t testing.TB, dir string, gibs int64) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(image, gibs<<30), os.MkdirAll(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range [][]string{
		{"mkfs.ext4", "-q", "-m", "0", "-b", "4096", "-E", "lazy_itable_init=1,lazy_journal_init=1", image}, {"mount", "-o", "loop", image, dir},
	} {
		if out, err := exec.CommandContext(t.Context(), cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s", cmd, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
}

// TestHostDiskFull: everything of a deployment is on a disk that a stranger fills to the last block. Databases write on, because their space is theirs. The API
// reads, and refuses changes with a sentence; creates and growths are refused with the numbers. With space again everything goes on by itself.
func TestHostDiskFull(t *testing.T) {
	mount := filepath.Join(repository, "var", "e2e-disk")
	smallDisk(t, mount, 8)
	state := filepath.Join(mount, "state")
	d, err := newDeployment(state)
	if err != nil {
		t.Fatal(err)
	}
	d.t = t
	t.Cleanup(func() {
		if out, err := d.try("dev", "destroy", "--state", state, "--force"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		_ = os.Remove(filepath.Join(mount, "stranger"))
	})
	i := d.createKept("disk-1", "--size", "1")
	stop := writer20Hz(t, open(t, i, "app", password, "app"))
	d.refused(t, "A volume that grows from 1 GiB to 50 GiB cannot be had: the local cloud has ", "instance", "resize", "volume", i.ID, "50", "--wait")

	stranger := filepath.Join(mount, "stranger")
	fillDisk(t, mount, stranger)
	// Reads go on. Changes are refused for want of space, and not as somebody's fault.
	eventually(t, 30*time.Second, "changes to be refused for want of space", func() bool {
		name := fmt.Sprintf("disk-%d", time.Now().UnixNano())
		_, err := d.try("instance", "update", i.ID, "--name", name)
		return err != nil && strings.Contains(err.Error(), "disk")
	})
	err = d.client.RestartInstance(t.Context(), i.ID)
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || !strings.Contains(refused.Message, "full") {
		t.Errorf("a change on a full disk: %v", err)
	}
	if shown := d.instance(i.ID); shown.Status != "ACTIVE" {
		t.Errorf("status %s", shown.Status)
	}
	time.Sleep(3 * time.Second) // the databases on the full disk
	if failed := stop(); failed > 0 {
		t.Errorf("%d inserts failed on the full disk", failed)
	}
	if err := os.Remove(stranger); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "changes to be taken again", func() bool {
		return d.client.RestartInstance(t.Context(), i.ID) == nil
	})
	eventually(t, patience, "the restart to be done", func() bool {
		i, err := d.client.Instance(t.Context(), i.ID)
		return err == nil && i.Status == "ACTIVE" && i.OperatingStatus == "HEALTHY"
	})
}

// fillDisk takes all that a file system has. Spare copies of volumes may be made meanwhile, so the large piece leaves a little.
func fillDisk(t testing.TB, mount, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, freeBytes(t, mount)-256<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 2); err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// refused runs a command that must fail with the sentence.
func (d *deployment) refused(t testing.TB, want string, args ...string) {
	t.Helper()
	_, err := d.try(args...)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v: %v, want %q", args, err, want)
	}
}
