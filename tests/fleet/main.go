// Command fleet measures what a fleet of guests costs the controllers: broker, conductor and store run in one child process, simulated guests in others, all
// over TLS on loopback. The guests are connections of the agent's own kind (natsbus.DialGuest) with identities of their own. It prints tables in Markdown and
// fails where a limit is not kept.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
)

// options are the same for all roles; a child gets them from its parent.
type options struct {
	role   string
	parts  string
	dir    string
	listen string
	guests int
	from   int // first guest of a child

	interval time.Duration
	jitter   time.Duration
	limits   int // messages a second that the broker and the conductor let a guest send; 0: as shipped
	procs    int // processors of the controllers; 0: all
	profile  string
}

func main() {
	var o options
	flag.StringVar(&o.role, "role", "run", "run, control or guests")
	flag.StringVar(&o.parts, "parts", "rest,misbehaving,restart,limit", "what is measured, in this order; all but limit need rest")
	flag.StringVar(&o.dir, "dir", "var/fleet", "where identities and the store are kept")
	flag.StringVar(&o.listen, "listen", "127.0.0.1:24222", "address of the bus; the enrolment endpoint has the port after it")
	flag.IntVar(&o.guests, "guests", 10000, "how many")
	flag.IntVar(&o.from, "from", 0, "number of the first guest")
	flag.DurationVar(&o.interval, "interval", 10*time.Second, "between heartbeats of a guest")
	flag.DurationVar(&o.jitter, "jitter", 10*time.Second, "spread of reconnects")
	flag.IntVar(&o.limits, "limits", 0, "messages a second that a guest may send; 0: as shipped")
	flag.IntVar(&o.procs, "procs", 0, "processors that the controllers may use; 0: all")
	flag.StringVar(&o.profile, "profile", "", "directory for CPU profiles of all processes, one for each 10 s; empty: none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	if o.profile != "" {
		go profile(ctx, o)
	}
	err := roles[o.role](ctx, o)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %s: %v\n", o.role, err)
		os.Exit(1)
	}
}

// profile writes one profile after another, so that the time of interest is in one of its own; the last one is lost with the process.
func profile(ctx context.Context, o options) {
	const each = 10 * time.Second
	for n := 0; ctx.Err() == nil; n++ {
		name := filepath.Join(o.profile, fmt.Sprintf("%s-%d-%03d.prof", o.role, os.Getpid(), n))
		f, err := os.Create(name)
		if err != nil {
			return
		}
		if pprof.StartCPUProfile(f) == nil {
			_ = clock.Sleep(ctx, each)
			pprof.StopCPUProfile()
		}
		_ = f.Close()
	}
}

var roles = map[string]func(context.Context, options) error{"run": run, "control": control, "guests": guests}
