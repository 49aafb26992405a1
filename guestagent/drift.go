package guestagent

import (
	"context"
	"fmt"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
)

// shownDifferences is how many parameters an event names.
const shownDifferences = 20

// watchDrift looks now and then whether somebody changed parameters in the running engine, and makes an event of what is new.
func (a *Agent) watchDrift(ctx context.Context) {
	if _, ok := a.cfg.Engine.(engine.DriftSource); !ok {
		return
	}
	known := map[string]string{}
	for clock.Sleep(ctx, a.times.Drift) == nil {
		if !a.supervisor.Service().Up {
			continue
		}
		known = a.lookForDrift(ctx, known)
	}
}

// lookForDrift returns what differs now, by name.
func (a *Agent) lookForDrift(ctx context.Context, known map[string]string) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, shortTimeout)
	defer cancel()
	all, err := a.differences(ctx)
	if err != nil {
		a.log.WarnContext(ctx, "parameters were not compared", "err", err)
		return known
	}
	now := make(map[string]string, len(all))
	var news []guestapi.Difference
	for _, d := range all {
		if is, had := known[d.Name]; !had || is != d.Is {
			news = append(news, d)
		}
		now[d.Name] = d.Is
	}
	if len(news) == 0 {
		return now
	}
	var text strings.Builder
	text.WriteString("Somebody changed parameters in the running database: they are not what the instance was given.")
	for n, d := range news {
		if n == shownDifferences {
			fmt.Fprintf(&text, "\nand %d more", len(news)-n)
			break
		}
		fmt.Fprintf(&text, "\n%s is %s, not %s", d.Name, shortened(d.Is, 100), shortened(d.Want, 100))
	}
	a.supervisor.Tell(trove.EventConfigurationDrift, text.String())
	return now
}
