package local_test

import (
	"syscall"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local"
)

// BenchmarkCreate measures network, volume and machine in a row up to the guest's first line, and reports each part; also the processor time of this
// process and of the programs that it runs, removal included, which other programs on the machine do not change as much.
func BenchmarkCreate(b *testing.B) {
	d := deploy(b)
	ctx := b.Context()
	d.create(b, trove.NewID(), 1) // fills the shelf
	parts := map[string]time.Duration{}
	self, children := cpu(b, syscall.RUSAGE_SELF), cpu(b, syscall.RUSAGE_CHILDREN)
	for b.Loop() {
		id := trove.NewID()
		at := time.Now()
		lap := func(name string) {
			parts[name] += time.Since(at)
			at = time.Now()
		}
		if _, err := d.EnsureNetwork(ctx, cloud.NetworkSpec{Instance: id}); err != nil {
			b.Fatal(err)
		}
		lap("network")
		if _, err := d.EnsureVolume(ctx, cloud.VolumeSpec{Instance: id, SizeGiB: 1, ImageID: imageID}); err != nil {
			b.Fatal(err)
		}
		lap("volume")
		if _, err := d.EnsureMachine(ctx, cloud.MachineSpec{Instance: id, ImageID: imageID, Flavor: local.DefaultFlavors()[0]}); err != nil {
			b.Fatal(err)
		}
		lap("machine")
		d.awaitLine(b, id, "agent starts")
		lap("agent")
		b.StopTimer()
		at = time.Now()
		if err := d.RemoveMachine(ctx, id); err != nil {
			b.Fatal(err)
		}
		lap("remove-machine")
		if err := d.RemoveVolume(ctx, id); err != nil {
			b.Fatal(err)
		}
		lap("remove-volume")
		if err := d.RemoveNetwork(ctx, id); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	parts["cpu-self"], parts["cpu-programs"] = cpu(b, syscall.RUSAGE_SELF)-self, cpu(b, syscall.RUSAGE_CHILDREN)-children
	for name, sum := range parts {
		b.ReportMetric(float64(sum.Microseconds())/1000/float64(b.N), name+"-ms")
	}
}

func cpu(b *testing.B, who int) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(who, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
