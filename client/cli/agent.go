package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func (a *app) agentCmd() *cobra.Command {
	return group("agent", "List and upgrade the guest agents of all projects' instances (administrators)", a.agentList(), a.agentUpgrade())
}

func (a *app) agentList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the guest agents with their versions", Args: cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.AllAgents(ctx)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, g := range all {
				seen := wire.Time(g.Seen)
				rows = append(rows, row{g.InstanceID, g.InstanceName, g.ProjectID, g.Version, stamp(&seen), g.Running})
			}
			return a.list([]string{"Instance ID", "Instance Name", "Project ID", "Version", "Seen", "Running"}, rows)
		}),
	}
}

func (a *app) agentUpgrade() *cobra.Command {
	r := rollout{app: a}
	cmd := &cobra.Command{
		Use: "upgrade [INSTANCE...]", Short: "Put a release of the guest agent in place; databases go on",
		Long: `Put a release of the guest agent in place and wait for the end. Databases go on, and the status of the instances does not change.

One instance is upgraded first, the others after it in waves. With the first one that fails, because its guest refused the release or took it back,
nothing more is begun. Instances that are stopped, or on which something else is under way, are skipped and named. The releases are those that
` + "`trove manage agent add`" + ` has put where the service runs.`,
		RunE: a.run(r.run),
	}
	f := cmd.Flags()
	f.BoolVar(&r.all, "all", false, "upgrade the agents of all instances that run")
	f.StringVar(&r.version, "release", "", "version of the release (the newest one)")
	f.IntVar(&r.parallel, "parallel", 5, "how many are upgraded at the same time, after the first one")
	f.IntVar(&r.seconds, "healthy-within", 0, "seconds that the new agent may take to show that it is well (60)")
	return cmd
}

// rollout is an upgrade of several agents.
type rollout struct {
	app      *app
	all      bool
	version  string
	parallel int
	seconds  int

	mu      sync.Mutex
	skipped int
}

func (r *rollout) run(ctx context.Context, c *client.Client, names []string) error {
	if r.all == (len(names) > 0) {
		return trove.Errorf(trove.KindBadRequest, "Name instances, or give --all.")
	}
	targets, err := r.targets(ctx, c, names)
	if err != nil {
		return err
	}
	for done, wave := 0, 1; done < len(targets); wave = max(1, r.parallel) {
		next := targets[done:min(done+wave, len(targets))]
		done += len(next)
		if err := r.wave(ctx, c, next); err != nil {
			if left := len(targets) - done; left > 0 {
				return fmt.Errorf("%w Nothing more was begun: %d of %d agents are left as they are.", err, left, len(targets)) //nolint:staticcheck // sentences for people
			}
			return err
		}
	}
	if r.skipped > 0 {
		return &failedError{fmt.Sprintf("%d of %d agents were skipped; give the command again later.", r.skipped, len(targets))}
	}
	return nil
}

// targets returns the agents that are to be upgraded: with --all those that run, and are not the release already as far as is known.
func (r *rollout) targets(ctx context.Context, c *client.Client, names []string) ([]wire.Agent, error) {
	known, err := c.AllAgents(ctx)
	if err != nil {
		return nil, err
	}
	if r.all {
		return slices.DeleteFunc(known, func(g wire.Agent) bool { return !g.Running || r.version != "" && g.Version == r.version }), nil
	}
	var targets []wire.Agent
	for _, name := range names {
		found := slices.DeleteFunc(slices.Clone(known), func(g wire.Agent) bool { return g.InstanceID != name && g.InstanceName != name })
		switch len(found) {
		case 0:
			return nil, trove.Errorf(trove.KindNotFound, "There is no instance %q.", name)
		case 1:
			targets = append(targets, found[0])
		default:
			return nil, trove.Errorf(trove.KindConflict, "There are %d instances with the name %q; use the id.", len(found), name)
		}
	}
	return targets, nil
}

// wave upgrades some agents at the same time and returns the first error, when all have ended.
func (r *rollout) wave(ctx context.Context, c *client.Client, targets []wire.Agent) error {
	var wg sync.WaitGroup
	errs := make([]error, len(targets))
	for n, g := range targets {
		wg.Go(func() { errs[n] = r.one(ctx, c, g) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *rollout) one(ctx context.Context, c *client.Client, g wire.Agent) error {
	op, err := c.UpgradeAgent(ctx, g.InstanceID, wire.UpgradeAgentArgs{Version: r.version, HealthySeconds: r.seconds})
	if refused, ok := errors.AsType[*client.Error](err); ok && (refused.Status == http.StatusUnprocessableEntity || refused.Status == http.StatusNotFound) {
		r.say(g, "skipped: "+refused.Message, true)
		return nil
	}
	if err != nil {
		return err
	}
	quiet := *r.app
	quiet.env.Stderr, quiet.env.Interactive = io.Discard, false
	if err := quiet.wait(ctx, c, wire.Instance{ID: g.InstanceID, Name: g.InstanceName}, op); err != nil {
		r.say(g, "failed", false)
		return err
	}
	r.say(g, "upgraded", false)
	return nil
}

func (r *rollout) say(g wire.Agent, what string, skipped bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if skipped {
		r.skipped++
	}
	fmt.Fprintf(r.app.env.Stdout, "%s %s (was %s): %s\n", g.InstanceID, g.InstanceName, g.Version, what)
}
