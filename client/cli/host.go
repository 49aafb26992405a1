package cli

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func (a *app) hostCmd() *cobra.Command {
	status := &cobra.Command{
		Use: "status", Short: "Show what the machines have, and what of it is promised, used and left (administrators)", Args: cobra.NoArgs,
		Long: `Show what the machines have that instances run on, and what of it is promised to instances, used and left. Memory and volumes are in GiB. A note says in a sentence
what comes to its end.`,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			hosts, err := c.Hosts(ctx)
			if err != nil {
				return err
			}
			var rows []row
			for _, h := range hosts {
				rows = append(rows, hostRows(h)...)
			}
			return a.list([]string{"Host", "What", "Total", "Promised", "Used", "Left", "Note"}, rows)
		}),
	}
	return group("host", "The machines that instances run on", status)
}

// hostRows is a line for each thing that a host has.
func hostRows(h wire.Host) []row {
	note := func(of, other string) string {
		var said []string
		for _, w := range h.Warnings {
			if w.Of == of {
				said = append(said, w.Sentence)
			}
		}
		if other != "" {
			said = append(said, other)
		}
		return strings.Join(said, " ")
	}
	pool := fmt.Sprintf("Space is reserved; the disk has %v GiB free, of which %v are kept.", gib(h.Pool.Free), gib(h.Pool.StopMark))
	if !h.Pool.Reserved {
		pool = fmt.Sprintf("Overcommitted %v times; the disk has %v GiB free, the stop mark is %v.", h.Pool.Overcommit, gib(h.Pool.Free), gib(h.Pool.StopMark))
	}
	machines := fmt.Sprintf("%d running, %d stopped, %d down; %d loop devices.", h.Running, h.Stopped, h.Down, h.Loops)
	return []row{
		{h.Name, "memory", gib(h.Memory.Total), gib(h.Memory.Promised), gib(h.Memory.Used), gib(h.Memory.Left), note("memory", "")},
		{h.Name, "cores", h.Cores.Total, h.Cores.Promised, nil, nil, note("cores", "")},
		{h.Name, "volumes", gib(h.Volumes.Total), gib(h.Volumes.Promised), gib(h.Volumes.Used), gib(h.Volumes.Left), note("volumes", pool)},
		{h.Name, "addresses", h.Addresses.Total, nil, h.Addresses.Used, h.Addresses.Left, note("addresses", "")},
		{h.Name, "instances", h.Running + h.Stopped + h.Down, nil, h.Running, nil, machines},
	}
}

// gib returns bytes in GiB with one digit after the point.
func gib(n int64) float64 { return math.Round(float64(n)/(1<<30)*10) / 10 }
