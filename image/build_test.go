package image_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/image"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// These tests build images without the package archive: the root file system is in the cache, and a small program stands in for the agent. The build of the
// real image is part of the end-to-end tests.

// seeded is a build whose root file system is in the cache already.
func seeded(t *testing.T, mode string) image.BuildSpec {
	t.Helper()
	needRoot(t)
	s := spec(t)
	s.AgentBinary = agent(t, mode)
	dir := rootTree(t)
	must(t, image.Finish(dir, image.TestRecipe{Account: image.TestAccount{Name: "mysql", UID: 990, GID: 990, Home: "/data/mysql"}}))
	must(t, image.SeedRoot(s, dir))
	return s
}

func agent(t *testing.T, mode string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-X main.mode="+mode, "-o", file, "./testdata/agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v: %s", err, out)
	}
	return file
}

func TestBuild(t *testing.T) {
	s := seeded(t, "")
	var sentences []string
	s.Progress = func(e image.Event) { sentences = append(sentences, e.Sentence) }
	m, err := image.Build(t.Context(), s)
	must(t, err)
	info, err := s.Engine("")
	must(t, err)
	if m.EngineVersion != "10.11.99" || m.EngineUID != 990 || !trove.ValidID(m.ID) || !cmp.Equal(m.Capabilities, info.Capabilities) || len(m.Goldens) != 3 {
		t.Errorf("manifest = %+v", m)
	}
	if all := strings.Join(sentences, "\n"); !strings.Contains(all, "other versions than the lock file (1): a is 2 in place of 1") {
		t.Errorf("the difference to the lock was not said: %s", all)
	}
	if read, err := imagelayout.Read(s.ImagesDir, m.ID); err != nil || !cmp.Equal(read, m) {
		t.Errorf("the manifest on the disk: %+v, %v", read, err)
	}
	wantSameFile(t, imagelayout.RootFS(s.ImagesDir, m.ID)+"/etc/hosts", filepath.Join(s.CacheDir, "roots"))
	program := filepath.Join(imagelayout.AgentPath(s.ImagesDir, m.ID), filepath.Base(imagelayout.AgentBin))
	if out, err := exec.CommandContext(t.Context(), "cmp", program, s.AgentBinary).CombinedOutput(); err != nil {
		t.Errorf("the agent in the image: %v: %s", err, out)
	}
	for _, g := range m.Goldens {
		wantGolden(t, filepath.Join(imagelayout.Dir(s.ImagesDir, m.ID), g.File), g.SizeMiB)
	}
	wantNothingAttached(t, s)

	sentences = nil
	again, err := image.Build(t.Context(), s)
	if err != nil || again.ID != m.ID {
		t.Errorf("second Build() = %s, %v, want %s", again.ID, err, m.ID)
	}
	if len(sentences) != 1 || !strings.Contains(sentences[0], "is there already") {
		t.Errorf("of an image that is there it says %q", sentences)
	}

	s.AgentBinary = write(t, t.TempDir()+"/agent", "another")
	if _, err := image.Build(t.Context(), s); err == nil {
		t.Error("an image with an agent that is no program was built: the agent is not part of the image's id")
	}
}

// wantSameFile checks that a file is a hard link to one in the cache: images that share a root take its space once.
func wantSameFile(t *testing.T, path, cache string) {
	t.Helper()
	found, err := filepath.Glob(cache + "/*/etc/hosts")
	if err != nil || len(found) != 1 {
		t.Fatalf("roots in the cache: %v, %v", found, err)
	}
	a, err := os.Stat(path)
	must(t, err)
	b, err := os.Stat(found[0])
	must(t, err)
	if !os.SameFile(a, b) {
		t.Error("the root file system was copied, not linked")
	}
}

// wantGolden mounts a golden volume in a namespace of its own and looks at what is in it.
func wantGolden(t *testing.T, file string, sizeMiB int) {
	t.Helper()
	info, err := os.Stat(file)
	must(t, err)
	if info.Size() != int64(sizeMiB)<<20 {
		t.Errorf("%s has %d bytes", file, info.Size())
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 16<<20 {
		t.Errorf("%s takes %d MiB on the disk", file, used>>20)
	}
	script := `mount -o loop,ro,norecovery,nouuid "$1" "$2" && cd "$2" && find . -mindepth 1 -printf "%p %m %U\n" | sort && xfs_info . | grep -o "sectsz=[0-9]*" | head -1 && xfs_info . | grep -o "agcount=[0-9]*"`
	out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", script, "look", file, t.TempDir()).CombinedOutput()
	if err != nil {
		t.Fatalf("mount %s: %v: %s", file, err, out)
	}
	if diff := cmp.Diff("./mysql 700 0\n./mysql/table 600 990\nsectsz=4096\nagcount=4\n", string(out)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// wantNothingAttached looks for mounts and loop devices of the build's directories.
func wantNothingAttached(t *testing.T, s image.BuildSpec) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	all := string(mounts)
	for _, f := range backing {
		text, _ := os.ReadFile(f) // it may have been detached meanwhile
		all += string(text)
	}
	if dir := filepath.Dir(s.ImagesDir); strings.Contains(all, dir) {
		t.Errorf("something of %s is still mounted or attached", dir)
	}
}

func TestTwoBuildsAtOnceMakeOneImage(t *testing.T) {
	s := seeded(t, "")
	var wg sync.WaitGroup
	ids := make([]string, 2)
	for i := range ids {
		wg.Go(func() {
			m, err := image.Build(t.Context(), s)
			if err != nil {
				t.Error(err)
			}
			ids[i] = m.ID
		})
	}
	wg.Wait()
	all, err := image.List(s.ImagesDir)
	if err != nil || len(all) != 1 || ids[0] != ids[1] || ids[0] != all[0].ID {
		t.Errorf("ids = %v, images = %v, %v", ids, all, err)
	}
}

func TestBuildShowsWhatTheAgentSaid(t *testing.T) {
	s := seeded(t, "broken")
	_, err := image.Build(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "the system tables could not be made") {
		t.Errorf("Build() = %v, want the agent's words", err)
	}
	wantNothingHalf(t, s)
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	s := seeded(t, "hang")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Progress = func(e image.Event) {
		if strings.HasPrefix(e.Sentence, "Making the golden volume") {
			// It is cancelled when the agent runs, which the loop device shows.
			go func() {
				dev := waitAttached(ctx, filepath.Dir(s.ImagesDir))
				cancel()
				<-time.After(time.Second) // as a kernel that takes its time to end the namespaces
				_ = dev.Close()
			}()
		}
	}
	_, err := image.Build(ctx, s)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Build() = %v, want it cancelled", err)
	}
	wantSentence(t, err, trove.KindUnavailable, "ended before it was done")
	wantNothingHalf(t, s)
}

// waitAttached waits until a file below the directory is attached, and returns the open loop device, which stays attached for as long.
func waitAttached(ctx context.Context, dir string) *os.File {
	for ctx.Err() == nil {
		backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
		for _, f := range backing {
			if text, _ := os.ReadFile(f); strings.HasPrefix(string(text), dir) {
				if dev, err := os.Open(filepath.Join("/dev", filepath.Base(filepath.Dir(filepath.Dir(f))))); err == nil {
					return dev
				}
			}
		}
		<-time.After(5 * time.Millisecond)
	}
	return nil
}

func wantNothingHalf(t *testing.T, s image.BuildSpec) {
	t.Helper()
	wantNothingAttached(t, s)
	if all, err := image.List(s.ImagesDir); err != nil || len(all) > 0 {
		t.Errorf("images = %v, %v", all, err)
	}
	if left, err := filepath.Glob(s.ImagesDir + "/.tmp-*"); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestBuildOnASmallDiskSaysSo(t *testing.T) {
	s := seeded(t, "")
	must(t, os.MkdirAll(s.ImagesDir, 0o755))
	must(t, syscall.Mount("tmpfs", s.ImagesDir, "tmpfs", 0, "size=16m"))
	t.Cleanup(func() { must(t, syscall.Unmount(s.ImagesDir, 0)) })
	_, err := image.Build(t.Context(), s)
	wantSentence(t, err, trove.KindUnavailable, "needs 1500 MiB of free space in "+s.ImagesDir, "there are 16 MiB")
}

func TestExplain(t *testing.T) {
	for text, want := range map[string]string{
		"cp: error writing 'x': No space left on device":                            "The disk is full",
		"E: Failed to fetch http://x/ Could not connect to x:80":                    "archive cannot be reached",
		"Temporary failure resolving 'x'":                                           "archive cannot be reached",
		"W: GPG error: NO_PUBKEY 0E98404D386FA1D9":                                  "debian-archive-keyring",
		"E: Unable to locate package mariadb-server-core":                           "does not have what the image needs",
		"mount: /x: unknown filesystem type 'xfs'.":                                 "modprobe xfs",
		"mount: /x: failed to setup loop device for y.":                             "loop device",
		fmt.Sprintf("write /x: %v", syscall.EIO):                                    "an internal error",
		"E: Unable to fetch some archives, maybe run apt-get update: 404 Not Found": "does not have",
	} {
		err := image.Explain(errors.New(text))
		if got := trove.MessageOf(err); !strings.Contains(got, want) {
			t.Errorf("%q is explained as %q, want %q in it", text, got, want)
		}
	}
	if err := image.Explain(fmt.Errorf("write: %w", syscall.ENOSPC)); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("ENOSPC is explained as %v", err)
	}
}
