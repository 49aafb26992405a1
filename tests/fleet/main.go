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
	"time"
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
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := roles[o.role](ctx, o)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %s: %v\n", o.role, err)
		os.Exit(1)
	}
}

var roles = map[string]func(context.Context, options) error{"run": run, "control": control, "guests": guests}
