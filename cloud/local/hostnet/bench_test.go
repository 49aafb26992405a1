package hostnet_test

import (
	"slices"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local/hostnet"
)

// BenchmarkEnsureInstance makes new instances and leaves them there: the kernel's work for removed ones would be counted otherwise.
func BenchmarkEnsureInstance(b *testing.B) {
	n := open(b, hostnet.Config{})
	var took []time.Duration
	for b.Loop() {
		begin := time.Now()
		ensure(b, n, hostnet.Spec{Instance: trove.NewID(), TCPPorts: []int{engine}})
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkEnsureInstanceAgain ensures what is there.
func BenchmarkEnsureInstanceAgain(b *testing.B) {
	n := open(b, hostnet.Config{})
	s := hostnet.Spec{Instance: trove.NewID(), TCPPorts: []int{engine}}
	for b.Loop() {
		ensure(b, n, s)
	}
}

func BenchmarkRemoveInstance(b *testing.B) {
	n := open(b, hostnet.Config{})
	for b.Loop() {
		b.StopTimer()
		p := ensure(b, n, hostnet.Spec{Instance: trove.NewID(), TCPPorts: []int{engine}})
		b.StartTimer()
		if err := n.RemoveInstance(b.Context(), p.Instance); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFindInstance(b *testing.B) {
	n := open(b, hostnet.Config{})
	p := guest(b, n)
	for b.Loop() {
		if _, err := n.FindInstance(b.Context(), p.Instance); err != nil {
			b.Fatal(err)
		}
	}
}

// What a look of Watch costs when nothing changed, with 100 instances.
func BenchmarkCheck(b *testing.B) {
	n := open(b, hostnet.Config{})
	for range 100 {
		guest(b, n)
	}
	if _, err := n.Check(b.Context(), true); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if found, err := n.Check(b.Context(), false); err != nil || len(found) > 0 {
			b.Fatal(found, err)
		}
	}
}
