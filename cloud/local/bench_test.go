package local_test

import (
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local"
)

// BenchmarkCreate measures network, volume and machine in a row up to the guest's first line, and reports each part.
func BenchmarkCreate(b *testing.B) {
	d := deploy(b)
	ctx := b.Context()
	d.create(b, trove.NewID(), 1) // fills the shelf
	parts := map[string]time.Duration{}
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
		d.awaitAgent(b, id)
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
	for name, sum := range parts {
		b.ReportMetric(float64(sum.Microseconds())/1000/float64(b.N), name+"-ms")
	}
}
