// Command scale measures what the service adds to what an OpenStack takes for many servers at once: the same servers with the same ports, security groups and
// volumes are made by a bare script and by our processes, in turn, on a lab with Nova's fake hypervisor, in which simulated guests boot. It counts our requests to
// each service and what they bring back, also while nothing happens, and how fast our API answers meanwhile. It prints tables in Markdown and fails where a limit is
// not kept.
//
// It has to be where the lab's addresses are: tests/openstack/lab/lab in var/openstack-scale/scale.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trove-dbaas/trove/tests/openstack"
)

type options struct {
	lab      string
	dir      string
	bin      string
	small    int
	large    int
	rounds   int
	parallel int
	idle     time.Duration
}

// The limits.
const (
	maxRatio = 1.3             // of the time that Nova alone takes
	maxList  = 2 * time.Second // 99 of 100 lists of instances meanwhile
	maxGrow  = 1.6             // of the requests and bytes of one instance, from few to many: what takes longer is looked at more often
	maxIdle  = 6               // requests a minute while nothing happens
)

func main() {
	var o options
	flag.StringVar(&o.lab, "lab", os.Getenv("LAB_STATE"), "directory of the lab")
	flag.StringVar(&o.dir, "dir", "var/openstack-scale/state", "state directory of the service, made anew")
	flag.StringVar(&o.bin, "bin", "bin", "directory of our programs")
	flag.IntVar(&o.small, "small", 10, "instances of the first measurement")
	flag.IntVar(&o.large, "large", 100, "instances of the others")
	flag.IntVar(&o.rounds, "rounds", 1, "how often bare script and service take turns with the many")
	flag.IntVar(&o.parallel, "parallel", 8, "requests of the bare script at the same time, and operations that the service works on at once")
	flag.DurationVar(&o.idle, "idle", 2*time.Minute, "how long it is counted what is asked while nothing happens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Hour)
	defer cancel()
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	lab, err := openstack.Open(ctx, o.lab)
	if err != nil {
		return err
	}
	s, err := start(ctx, o, lab)
	if err != nil {
		return err
	}
	defer s.end()
	before, err := lab.Take(ctx)
	if err != nil {
		return err
	}
	b, err := newBare(ctx, o)
	if err != nil {
		return err
	}
	m := &measurement{options: o, service: s, bare: b}
	if err := m.all(ctx); err != nil {
		return err
	}
	if err := s.waitForNothing(ctx); err != nil {
		return err
	}
	left, err := lab.Settled(ctx, before, time.Minute)
	if err != nil {
		return err
	}
	// Names of namespaces and libvirt's domains are the machine's, and those of another lab: this one has none.
	left = slices.DeleteFunc(left, func(s string) bool {
		return strings.Contains(s, "network namespace ") || strings.Contains(s, "libvirt domain ")
	})
	m.must(len(left) == 0, "%d things are left in the cloud, such as %v", len(left), left[:min(len(left), 5)])
	return m.tell()
}

func out(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

// note says what goes on to whoever waits.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
