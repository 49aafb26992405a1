package app

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Little lives long in this process: some 15 MiB. At Go's default the collector would run after each 15 MiB of garbage, which under load on one core costs a
// tenth of the time; at four times that it hardly shows. What was taken under load is given back when it is quiet.
const (
	gcPercent   = 400
	memoryLimit = 192 << 20 // bytes; a soft limit: above it the collector works harder
	trimEvery   = 20 * time.Second
	trimWorth   = 2 << 20  // bytes allocated since it was given back, below which nothing is to be had
	trimBusy    = 64 << 20 // bytes allocated in one interval, above which there is load
)

// tuneMemory sets the collector for the process, unless the environment does.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// trimMemory gives memory back to the system whenever the process has become quiet.
func trimMemory(ctx context.Context) error {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var last, kept uint64 // allocated when it was looked last, and since memory was given back last
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		metrics.Read(sample)
		allocated := sample[0].Value.Uint64()
		if allocated-kept > trimWorth && allocated-last < trimBusy {
			debug.FreeOSMemory()
			kept = allocated
		}
		last = allocated
	}
}
