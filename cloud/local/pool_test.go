package local_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local"
)

// smallDisk mounts a file system of its own and returns its directory. Its backing file is sparse: what is reserved in it costs nothing outside.
func smallDisk(tb testing.TB, gibs int) string {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("needs root: mounts")
	}
	image, dir := filepath.Join(tb.TempDir(), "disk.img"), tb.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Truncate(image, int64(gibs)<<30); err != nil {
		tb.Fatal(err)
	}
	for _, cmd := range [][]string{{"mkfs.ext4", "-q", "-m", "0", "-b", "4096", "-E", "lazy_itable_init=1,lazy_journal_init=1", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.CommandContext(tb.Context(), cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			tb.Fatalf("%v: %v %s", cmd, err, out)
		}
	}
	tb.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			tb.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// fataler is a test of either kind.
type fataler interface{ Fatal(args ...any) }

func free(tb fataler, dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		tb.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// deployOn is deploy with the cloud's files on another file system.
func deployOn(tb testing.TB, dir string, change func(*local.Config)) *deployment {
	tb.Helper()
	d := deploy(tb)
	d.config.Dir, d.config.PoolGiB, d.config.Spares = dir, 0, -1
	if change != nil {
		change(&d.config)
	}
	if err := d.Close(); err != nil {
		tb.Fatal(err)
	}
	d.Provider = d.open(tb)
	return d
}

// model is what the pool should say.
type model struct {
	d       *deployment
	dir     string
	sizes   map[string]int // GiB promised, by instance
	made    map[string]int // GiB that the file has
	foreign []string
	names   []string
}

func (m *model) name(t *rapid.T) string { return rapid.SampledFrom(m.names).Draw(t, "instance") }

func (m *model) sum() (all int64) {
	for _, n := range m.sizes {
		all += int64(n) << 30
	}
	return all
}

// ask makes or grows a volume; the pool says yes exactly when it said before that so much is left.
func (m *model) ask(t *rapid.T, id string, size int, do func() error) {
	pool, err := m.d.Pool()
	if err != nil {
		t.Fatal(err)
	}
	err = do()
	more := int64(size-m.sizes[id]) << 30
	switch {
	case err == nil && more > pool.Left:
		t.Fatalf("%d GiB were promised though only %d bytes were left: %+v", size, pool.Left, pool)
	case err == nil:
		m.sizes[id] = size
	case trove.KindOf(err) != trove.KindOverLimit:
		t.Fatal(err)
	case more <= pool.Left:
		t.Fatalf("%d GiB more were refused though %d bytes were left: %v", size-m.sizes[id], pool.Left, err)
	}
}

func (m *model) check(t *rapid.T) {
	pool, err := m.d.Pool()
	if err != nil {
		t.Fatal(err)
	}
	if pool.Promised != m.sum() || pool.Volumes != len(m.sizes) {
		t.Fatalf("%d bytes are promised to %d volumes, want %d to %d", pool.Promised, pool.Volumes, m.sum(), len(m.sizes))
	}
	if pool.Promised > pool.Limit() && m.foreign == nil {
		t.Fatalf("more is promised than there is: %+v", pool)
	}
	var blocks int64
	for id := range m.sizes {
		for _, name := range []string{"volume.img", "volume.img.part"} {
			var st syscall.Stat_t
			if syscall.Stat(filepath.Join(m.dir, "instances", id, name), &st) == nil {
				blocks += st.Blocks * 512
			}
		}
	}
	// The file system's own bookkeeping may move on between two looks.
	if now := free(t, m.dir); pool.Used != blocks || max(now, pool.Free)-min(now, pool.Free) > 1<<20 {
		t.Fatalf("used %d and free %d, really %d and %d", pool.Used, pool.Free, blocks, free(t, m.dir))
	}
	// What was promised can be had: all of it fits into what the file system has free beside the stop mark, whatever others have taken before it was promised.
	if m.foreign == nil && pool.Pending > pool.Free {
		t.Fatalf("%d bytes are promised that the file system does not have: %+v", pool.Pending, pool)
	}
}

// TestPoolNeverLies compares the pool's figures with a model, through creates, growths, removals, calls that were killed half way, and strangers on the same
// file system.
func TestPoolNeverLies(t *testing.T) {
	dir := smallDisk(t, 24)
	d := deployOn(t, dir, nil)
	ctx := t.Context()
	record := func(id string) string { return filepath.Join(dir, "instances", id, "volume.json") }
	image := func(id string) string { return filepath.Join(dir, "instances", id, "volume.img") }
	rapid.Check(t, func(t *rapid.T) {
		m := &model{d: d, dir: dir, sizes: map[string]int{}, made: map[string]int{}}
		for range 5 {
			m.names = append(m.names, trove.NewID())
		}
		defer func() {
			for _, id := range m.names {
				if err := d.DropVolume(ctx, id); err != nil {
					t.Error(err)
				}
			}
			for _, f := range m.foreign {
				_ = os.Remove(f)
			}
		}()
		t.Repeat(map[string]func(*rapid.T){
			"": m.check,
			"make or grow": func(t *rapid.T) {
				id := m.name(t)
				size := m.sizes[id] + rapid.IntRange(1, 8).Draw(t, "more")
				m.ask(t, id, size, func() error { return d.MakeVolume(ctx, id, size) })
				if m.sizes[id] == size {
					m.made[id] = size
				}
			},
			"killed after the booking": func(t *rapid.T) {
				id := m.name(t)
				size := m.sizes[id] + rapid.IntRange(1, 4).Draw(t, "more")
				m.ask(t, id, size, func() error { return d.Book(ctx, id, size) })
			},
			"killed in the copy": func(t *rapid.T) {
				id := m.name(t)
				if m.made[id] > 0 || m.sizes[id] > 0 {
					t.Skip("it is there")
				}
				m.ask(t, id, 1, func() error { return d.Book(ctx, id, 1) })
				if m.sizes[id] == 1 {
					reserve(t, image(id)+".part", 1<<29)
				}
			},
			"finish": func(t *rapid.T) {
				id := m.name(t)
				if m.sizes[id] == 0 {
					t.Skip("nothing to finish")
				}
				switch err := d.MakeVolume(ctx, id, m.sizes[id]); {
				case err == nil:
					m.made[id] = m.sizes[id]
				case m.foreign == nil || trove.KindOf(err) != trove.KindOverLimit:
					t.Fatalf("what was promised could not be had: %v", err)
				case m.made[id] > 0: // a stranger was quicker: the volume is what it was
					m.sizes[id] = m.made[id]
				}
			},
			"remove": func(t *rapid.T) {
				id := m.name(t)
				if err := d.DropVolume(ctx, id); err != nil {
					t.Fatal(err)
				}
				delete(m.sizes, id)
				delete(m.made, id)
			},
			"killed in a removal": func(t *rapid.T) {
				id := m.name(t)
				if m.made[id] == 0 {
					t.Skip("nothing to remove")
				}
				if err := os.Remove(image(id)); err != nil {
					t.Fatal(err)
				}
				delete(m.made, id)
				if _, err := os.Stat(record(id)); err != nil {
					t.Fatal(err)
				}
			},
			"another process": func(t *rapid.T) {
				p, err := local.Open(ctx, d.config)
				if err != nil {
					t.Fatal(err)
				}
				mine, err1 := d.Pool()
				theirs, err2 := p.Pool()
				if err := errors.Join(err1, err2, p.Close()); err != nil || mine != theirs {
					t.Fatalf("one process says %+v, another %+v: %v", mine, theirs, err)
				}
			},
			"a stranger": func(t *rapid.T) {
				before, err := d.Pool()
				if err != nil {
					t.Fatal(err)
				}
				path, size := filepath.Join(dir, trove.NewID()), rapid.Int64Range(1, 5).Draw(t, "GiB")<<30
				if size > before.Free {
					t.Skip("the stranger finds no room")
				}
				reserve(t, path, size)
				m.foreign = append(m.foreign, path)
				if after, err := d.Pool(); err != nil || after.Left > max(0, before.Left-size)+1<<24 && before.Left > 0 {
					t.Fatalf("a stranger took %d, and what is left went from %d to %d: %v", size, before.Left, after.Left, err)
				}
			},
		})
	})
}

// reserve makes a file that has its space.
func reserve(t fataler, path string, size int64) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		t.Fatal(err)
	}
}

// TestCreatesAtOnceShareThePool: of twelve creates at the same time those succeed that fit, in two processes, and no promise is broken.
func TestCreatesAtOnceShareThePool(t *testing.T) {
	dir := smallDisk(t, 12)
	d := deployOn(t, dir, nil)
	other := d.open(t)
	pool, err := d.Pool()
	if err != nil {
		t.Fatal(err)
	}
	fit := int(pool.Left >> 31) // each has 2 GiB
	var wg sync.WaitGroup
	var made atomic.Int64
	for n := range 12 {
		p := []*local.Provider{d.Provider, other}[n%2]
		wg.Go(func() {
			err := p.MakeVolume(t.Context(), trove.NewID(), 2)
			if err == nil {
				made.Add(1)
			} else if trove.KindOf(err) != trove.KindOverLimit || !trove.IsPermanent(err) || strings.Contains(err.Error(), "reserve") {
				t.Errorf("refused with %v", err)
			}
		})
	}
	wg.Wait()
	if fit < 3 || int(made.Load()) != fit {
		t.Errorf("%d volumes were made, %d fit", made.Load(), fit)
	}
	if left := free(t, dir); left < local.Headroom {
		t.Errorf("the file system has %d bytes left, want the headroom", left)
	}
}

// TestGrowthThatDoesNotFit: the volume is what it was, and counted as that, also when the booking was older than what filled the disk.
func TestGrowthThatDoesNotFit(t *testing.T) {
	dir := smallDisk(t, 8)
	d := deployOn(t, dir, nil)
	ctx, id := t.Context(), trove.NewID()
	d.create(t, id, 1)
	_, err := d.EnsureVolume(ctx, cloud.VolumeSpec{Instance: id, SizeGiB: 20})
	want := "A volume that grows from 1 GiB to 20 GiB cannot be had: the local cloud has "
	if trove.KindOf(err) != trove.KindOverLimit || !strings.HasPrefix(trove.MessageOf(err), want) {
		t.Errorf("refused with %v", err)
	}
	if err := d.Book(ctx, id, 5); err != nil { // and killed
		t.Fatal(err)
	}
	reserve(t, filepath.Join(dir, "stranger"), free(t, dir)-1<<30)
	_, err = d.EnsureVolume(ctx, cloud.VolumeSpec{Instance: id, SizeGiB: 5})
	if trove.KindOf(err) != trove.KindOverLimit || !strings.Contains(trove.MessageOf(err), "from 1 GiB to 5 GiB") {
		t.Errorf("refused with %v", err)
	}
	v, err := d.FindVolume(ctx, id)
	pool, poolErr := d.Pool()
	if err != nil || poolErr != nil || !v.Ready || v.SizeGiB != 1 || pool.Promised != 1<<30 {
		t.Errorf("the volume is %+v, %v; %d bytes are promised, %v", v, err, pool.Promised, poolErr)
	}
	d.writeMore(t, id, "still writable")
}

// TestStopMark: with overcommit nothing is made or grown while the file system has less free than the mark; what there is goes on, and it is said once.
func TestStopMark(t *testing.T) {
	dir := smallDisk(t, 8)
	d := deployOn(t, dir, func(c *local.Config) {
		c.Overcommit, c.StopMark, c.WarnMark = 10, local.Mark{Bytes: 2 << 30}, local.Mark{Percent: 50}
	})
	ctx, id := t.Context(), trove.NewID()
	d.create(t, id, 4)
	reserve(t, filepath.Join(dir, "stranger"), free(t, dir)-3<<29)
	for name, spec := range map[string]cloud.VolumeSpec{
		"made": {Instance: trove.NewID(), SizeGiB: 1, ImageID: imageID}, "grown": {Instance: id, SizeGiB: 6},
	} {
		_, err := d.EnsureVolume(ctx, spec)
		if trove.KindOf(err) != trove.KindOverLimit || !strings.Contains(trove.MessageOf(err), "free, and the stop mark is 2 GiB") {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.writeMore(t, id, "still writable")
	if pool, err := d.Pool(); err != nil || pool.Left != 0 || !pool.Low() {
		t.Errorf("%+v, %v", pool, err)
	}
	if err := os.Remove(filepath.Join(dir, "stranger")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.EnsureVolume(ctx, cloud.VolumeSpec{Instance: id, SizeGiB: 6}); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

// TestDefaultStopMark: a tenth of a disk, of a large one no more than is of use, and without overcommit what the controller needs.
func TestDefaultStopMark(t *testing.T) {
	for name, c := range map[string]struct {
		gibs       int
		overcommit float64
		least      int64
		most       int64
	}{
		"small disk": {8, 2, 7 << 30 / 10, 8 << 30 / 10}, // ext4 has some of it for itself
		"large disk": {400, 2, local.MaxStop, local.MaxStop},
		"reserved":   {400, 1, local.Headroom, local.Headroom},
	} {
		t.Run(name, func(t *testing.T) {
			d := deployOn(t, smallDisk(t, c.gibs), func(config *local.Config) { config.Overcommit = c.overcommit })
			if pool, err := d.Pool(); err != nil || pool.StopMark < c.least || pool.StopMark > c.most {
				t.Errorf("%+v, %v; want a stop mark from %d to %d", pool, err, c.least, c.most)
			}
		})
	}
}

// TestFreedSpace: with overcommit what is deleted in a volume goes back to the disk; a volume whose space is reserved keeps it, whoever trims.
func TestFreedSpace(t *testing.T) {
	for _, overcommit := range []float64{1, 4} {
		t.Run(fmt.Sprintf("overcommit %v", overcommit), func(t *testing.T) {
			dir := smallDisk(t, 8)
			d := deployOn(t, dir, func(c *local.Config) { c.Overcommit = overcommit })
			id := trove.NewID()
			d.create(t, id, 2)
			d.writeMore(t, id, strings.Repeat("trove", 40<<20))
			full, err := d.Pool()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(d.volumeFile(id, "facts.json"), 0); err != nil {
				t.Fatal(err)
			}
			d.writeMore(t, id, "end")
			used := func() int64 {
				pool, err := d.Pool()
				if err != nil {
					t.Fatal(err)
				}
				return pool.Used
			}
			if kept := used(); overcommit == 1 && kept < 2<<30 {
				t.Errorf("a reserved volume of 2 GiB gave space back: it has %d MiB", kept>>20)
			}
			trim := exec.CommandContext(t.Context(), "fstrim", d.volumeFile(id, ""))
			out, trimErr := trim.CombinedOutput()
			t.Logf("with the data %d MiB are used, now %d; fstrim: %v %s", full.Used>>20, used()>>20, trimErr, out)
			if overcommit > 1 {
				d.eventually(t, "the space to be given back", func() bool { return used() < full.Used-150<<20 })
				return
			}
			// A trim by the host's own root makes holes in spite of all. They are counted, and filled again.
			if trimErr != nil {
				t.Fatalf("fstrim: %v %s", trimErr, out)
			}
			if pool, err := d.Pool(); err != nil || pool.Used+pool.Pending < 2<<30 {
				t.Errorf("with holes the pool says %+v, %v", pool, err)
			}
			p := d.open(t) // with a look at all volumes, as every minute
			d.eventually(t, "the holes to be filled", func() bool { return used() >= 2<<30 })
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if got := used(); got < 2<<30 {
				t.Errorf("%d bytes are reserved after it was looked at again", got)
			}
		})
	}
}

// writeMore writes to a file of the instance's: the host's root has no id there to own a new one.
func (d *deployment) writeMore(t *testing.T, id, text string) {
	t.Helper()
	f, err := os.OpenFile(d.volumeFile(id, "facts.json"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestParseMark(t *testing.T) {
	for text, want := range map[string]local.Mark{"": {}, "10%": {Percent: 10}, "0.5%": {Percent: 0.5}, "20GiB": {Bytes: 20 << 30}, "1.5 GiB": {Bytes: 3 << 29}} {
		if got, err := local.ParseMark(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"10", "-1%", "100%", "x", "%", "GiB", "20GB", "NaN%"} {
		if got, err := local.ParseMark(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}
