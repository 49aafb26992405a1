package local_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local"
	"github.com/trove-dbaas/trove/cloud/local/volume"
	"github.com/trove-dbaas/trove/internal/clock"
)

// flooding makes an instance that writes to its volume as fast as it can.
func (d *deployment) flooding(t *testing.T, f trove.Flavor) string {
	t.Helper()
	ctx, id := t.Context(), trove.NewID()
	if _, err := d.EnsureNetwork(ctx, cloud.NetworkSpec{Instance: id}); err != nil {
		t.Fatal(err)
	}
	d.volume(t, id)
	if _, err := d.EnsureMachine(ctx, cloud.MachineSpec{Instance: id, ImageID: imageID, Flavor: f, BootData: []byte(`{"flood":true}`)}); err != nil {
		t.Fatal(err)
	}
	d.awaitAgent(t, id)
	return id
}

// written returns how many bytes have gone to the instance's volume, as the host's kernel counts them.
func (d *deployment) written(t *testing.T, id string) int64 {
	t.Helper()
	a, err := volume.Find(d.volumeFile(id, ""))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(read(t, fmt.Sprintf("/sys/block/loop%d/stat", a.Loop)))
	sectors, err := strconv.ParseInt(fields[6], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return sectors * 512
}

// TestIOLimitHolds: a guest that writes as fast as it can gets what its flavor has, a neighbour without a limit many times that; a resize changes it at once.
func TestIOLimitHolds(t *testing.T) {
	d := deploy(t)
	const limit = 4 // MiB/s
	slow := local.DefaultFlavors()[0]
	slow.Bandwidth = limit
	held, neighbour := d.flooding(t, slow), d.flooding(t, local.DefaultFlavors()[0])
	rates := func() (own, other int64) {
		const span = 4 * time.Second
		own, other = d.written(t, held), d.written(t, neighbour)
		began := time.Now()
		if err := clock.Sleep(t.Context(), span); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began).Seconds()
		per := func(n int64) int64 { return int64(float64(n) / took) } // whole numbers overflow: an unlimited guest writes more than 9 GB meanwhile
		return per(d.written(t, held) - own), per(d.written(t, neighbour) - other)
	}
	// A machine whose disk others use may give little for a while. The limit holds all the same.
	own, other := rates()
	for range 14 {
		if own > 2*limit<<20 || own >= limit<<20/4 && other >= 2*own {
			break
		}
		own, other = rates()
	}
	t.Logf("held to %d MiB/s: %.1f MiB/s; the neighbour: %.1f MiB/s", limit, float64(own)/(1<<20), float64(other)/(1<<20))
	if own > 2*limit<<20 || own < limit<<20/4 {
		t.Errorf("the guest writes %d bytes a second", own)
	}
	if other < 2*own {
		t.Errorf("the neighbour writes %d bytes a second, the guest %d", other, own)
	}
	fast := slow
	fast.ID, fast.Bandwidth = "9", 0
	if _, err := d.ResizeMachine(t.Context(), held, fast); err != nil {
		t.Fatal(err)
	}
	own, _ = rates()
	for range 14 {
		if own >= 3*limit<<20 {
			break
		}
		own, _ = rates()
	}
	if own < 3*limit<<20 {
		t.Errorf("without the limit the guest writes %d bytes a second", own)
	}
}

// TestDriftOfLimits changes limits by hand and moves the processes away: each is noticed, mended, logged, counted and told.
func TestDriftOfLimits(t *testing.T) {
	d := deploy(t)
	var mu sync.Mutex
	var told []string
	registry := prometheus.NewRegistry()
	d.config.Tend, d.config.Registry = 200*time.Millisecond, registry
	d.config.Mended = func(_ context.Context, instance, what, sentence string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, instance+" "+what+" "+sentence)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d.Provider = d.open(t)
	f := local.DefaultFlavors()[0]
	f.IOPS, f.Bandwidth = 1000, 32
	id := d.flooding(t, f)
	group := func(controller, file string) string {
		unified := filepath.Join("/sys/fs/cgroup", filepath.Base(d.RunDir()), id, file)
		if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
			return unified
		}
		return filepath.Join("/sys/fs/cgroup", controller, filepath.Base(d.RunDir()), id, file)
	}
	procs := group("pids", "cgroup.procs")
	a, err := volume.Find(d.volumeFile(id, ""))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range []struct {
		what   string
		change func() error
		mended func() bool
	}{
		{"the number of processes", func() error { return os.WriteFile(group("pids", "pids.max"), []byte("7"), 0) }, func() bool {
			return strings.TrimSpace(read(t, group("pids", "pids.max"))) == "4096"
		}},
		{"the traffic", func() error {
			return os.WriteFile(group("blkio", "blkio.throttle.write_bps_device"), []byte(a.Number()+" 0"), 0)
		}, func() bool {
			return strings.Contains(read(t, group("blkio", "blkio.throttle.write_bps_device")), fmt.Sprint(32<<20))
		}},
		{"its processes", func() error {
			for pid := range strings.FieldsSeq(read(t, procs)) {
				for _, root := range glob(t, "/sys/fs/cgroup/*/cgroup.procs") {
					if err := os.WriteFile(root, []byte(pid), 0); err != nil && !strings.Contains(root, "unified") {
						return err
					}
				}
			}
			return os.Remove(filepath.Dir(procs))
		}, func() bool {
			data, err := os.ReadFile(procs)
			return err == nil && len(strings.Fields(string(data))) > 0 && strings.TrimSpace(read(t, group("pids", "pids.max"))) == "4096"
		}},
	} {
		if err := c.change(); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		d.eventually(t, c.what+" to be mended", c.mended)
		n++
		d.eventually(t, c.what+" to be told", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(told) >= n && slices.ContainsFunc(told, func(s string) bool {
				return strings.HasPrefix(s, id+" limits ") && strings.Contains(s, c.what)
			})
		})
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]int{}
	for _, f := range families {
		series[f.GetName()] = len(f.GetMetric())
	}
	if series["trove_local_mended_total"] != 1 || series["trove_pool_bytes"] != 11 {
		t.Errorf("metrics: %v", series)
	}
}
