package attacks_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	deploy "github.com/trove-dbaas/trove/tests/deployment"
)

func limitHit(limit string) string { return metric("trove_local_limit_hits_total", "limit", limit) }

// ends runs an attack that the kernel ends, and returns what it said.
func (a *attack) ends(instance, name string) string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd, out, errs := a.command(ctx, instance, name, nil)
	if err := cmd.Run(); err == nil {
		a.t.Errorf("the attack %s ended by itself: %s%s", name, out, errs)
	}
	return errs.String()
}

// most is the largest number that an attack said it has.
func most(t *testing.T, said string) int {
	t.Helper()
	most := 0
	for _, m := range regexp.MustCompile(`has (\d+) MiB`).FindAllStringSubmatch(said, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, n)
	}
	return most
}

func TestUseTheMemoryOfOthers(t *testing.T) {
	a := begin(t)
	guest := a.fresh("eats")
	const limit = 512 + 32
	for _, name := range []string{"memory", "shm"} {
		if n := most(t, a.ends(guest, name)); n < 64 || n > limit {
			t.Errorf("%s: the attack came to %d MiB, the limit is %d MiB", name, n, limit)
		}
	}
	a.counted(limitHit("memory"), 1)
	a.logged("instance ran into a limit", guest, "memory")
}

func TestStartTooManyProcesses(t *testing.T) {
	a := begin(t)
	guest := a.fresh("multiplies")
	said := a.ends(guest, "processes")
	m := regexp.MustCompile(`failed to create new OS thread \(have (\d+) already; errno=11\)`).FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("the attack ended with %.2000s", said)
	}
	if n, err := strconv.Atoi(m[1]); err != nil || n < 500 || n > 4096 {
		t.Errorf("%s threads could be started", m[1])
	}
	a.counted(limitHit("processes"), 1)
	a.logged("instance ran into a limit", guest, "processes")
}

func TestUseMoreThanTheVolume(t *testing.T) {
	a := begin(t)
	guest := a.fresh("fills")
	r := a.insideOf(guest, "volume", nil)
	image, err := os.Stat(filepath.Join(a.State, "instances", guest, "volume.img"))
	if err != nil {
		t.Fatal(err)
	}
	if image.Size() != 1<<30 {
		t.Errorf("the volume's file has %d bytes", image.Size())
	}
	if total, err := strconv.ParseInt(r.Facts["total"], 10, 64); err != nil || total > 1<<30 {
		t.Errorf("the file system has %s bytes", r.Facts["total"])
	}
	if _, err := a.watch.db.ExecContext(t.Context(), "CREATE OR REPLACE TABLE meanwhile AS SELECT REPEAT('x', 1000000) AS a"); err != nil {
		t.Errorf("the neighbour cannot write: %v", err)
	}
}

func TestFillTheFileSystemsInMemory(t *testing.T) {
	a := begin(t)
	a.insideOf(a.fresh("fills"), "tmpfs", nil)
}

func TestFillTheConsole(t *testing.T) {
	a := begin(t)
	guest := a.fresh("talks")
	a.insideOf(guest, "console", nil)
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(a.runDir(), "i", guest, "console.log"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > 2<<20 {
		t.Errorf("the console takes %d bytes", st.Blocks*512)
	}
	// Stopping keeps the end of the console: whatever is in it, and however large it says it is.
	a.Trove("instance", "restart", guest, "--wait")
}

func TestUseMoreCores(t *testing.T) {
	a := begin(t)
	a.inside("cpu", nil)
}

// The host opens nothing inside of a guest's volume: links lead nowhere, whatever the host does with the instance.
func TestLeadTheHostAstrayWithLinks(t *testing.T) {
	a := begin(t)
	guest := a.fresh("links")
	target := filepath.Join(t.TempDir(), "target")
	const content = "the host's own"
	if err := os.WriteFile(target, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	a.insideOf(guest, "links", map[string]string{"target": target})
	a.Trove("instance", "restart", guest, "--wait")
	a.Trove("instance", "resize", "volume", guest, "2", "--wait")
	if got := readFile(t, target); got != content {
		t.Errorf("the host's file is now %q", got)
	}
	if console := readFile(t, filepath.Join(a.runDir(), "i", guest, "console.log")); strings.Contains(console, content) {
		t.Error("the guest read the host's file")
	}
	a.Remove(guest)
	if got := readFile(t, target); got != content {
		t.Errorf("the host's file is %q after the removal", got)
	}
}

// What a guest does to itself is its own affair, and mended.
func TestKillEverythingInTheSandbox(t *testing.T) {
	a := begin(t)
	guest := a.fresh("kills")
	a.insideOf(guest, "kill", nil)
	deploy.Eventually(t, 60*time.Second, "agent and engine to be back by themselves", func() bool {
		_, err := a.Client.Databases(t.Context(), guest)
		return err == nil
	})
}

func TestUseTheDiskOfOthers(t *testing.T) {
	a := begin(t)
	i := a.Create("slow", "--flavor", "db.slow")
	a.insideOf(i.ID, "io", nil)
}
