// Command agentcost puts an instance under the load of its engine's own benchmark and compares the processor time of the guest agent with that of the engine,
// and prints the agent's memory. It needs a running deployment on this machine, root, and the benchmark's program: sysbench, pgbench or
// redis-benchmark. It prints one row of a table in Markdown, and fails beyond the limits.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func main() {
	datastore := flag.String("datastore", "mariadb", "what is created")
	version := flag.String("datastore-version", "10.11", "which version of it")
	limit := flag.Float64("limit", 0, "fail if the agent needs more than this percentage of the engine's processor time")
	seconds := flag.Int("seconds", 20, "how long the load lasts")
	flag.Parse()
	if err := run(*datastore, *version, *seconds, *limit); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(datastore, version string, seconds int, limit float64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	c, err := client.New(client.Config{
		AuthURL: os.Getenv("OS_AUTH_URL"), Username: os.Getenv("OS_USERNAME"), Password: trove.Secret(os.Getenv("OS_PASSWORD")), Project: os.Getenv("OS_PROJECT_NAME"),
	})
	if err != nil {
		return err
	}
	loader, ok := loaders[datastore]
	if !ok {
		return fmt.Errorf("there is no benchmark for %s", datastore)
	}
	wish := wire.InstanceCreate{
		Name: "cost", FlavorRef: "2", Volume: &wire.VolumeCreate{Size: 2}, Datastore: &wire.DatastoreChoice{Type: datastore, Version: version},
		Users: []wire.UserCreate{{Name: "app", Password: password}},
	}
	if loader.databases {
		wish.Databases, wish.Users[0].Databases = []wire.DatabaseCreate{{Name: "app"}}, []wire.Database{{Name: "app"}}
	}
	i, err := c.CreateInstance(ctx, wish)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	defer func() { _ = c.DeleteInstance(context.WithoutCancel(ctx), i.ID) }()
	if i, err = built(ctx, c, i.ID); err != nil {
		return err
	}
	if err := loader.prepare(ctx, i.Addresses[0].Address); err != nil {
		return fmt.Errorf("prepare the load: %w", err)
	}
	before, err := look(i.ID)
	if err != nil {
		return err
	}
	began := time.Now()
	done, err := loader.load(ctx, i.Addresses[0].Address, seconds)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	took := time.Since(began)
	after, err := look(i.ID)
	if err != nil {
		return err
	}
	agent, engine := after.agent-before.agent, after.engine-before.engine
	if engine <= 0 {
		return errors.New("the engine did nothing")
	}
	share := 100 * agent.Seconds() / engine.Seconds()
	fmt.Fprintf(os.Stdout, "| %s %s | %s | %.0f s | %.2f s | %.2f s | %.2f %% | %.1f MiB |\n",
		datastore, version, done, took.Seconds(), engine.Seconds(), agent.Seconds(), share, float64(after.memory)/(1<<20))
	if limit > 0 && share > limit {
		return fmt.Errorf("the agent of %s %s needs %.2f %% of the engine's processor time, the limit is %g %%", datastore, version, share, limit)
	}
	return nil
}

func built(ctx context.Context, c *client.Client, id string) (wire.Instance, error) {
	for {
		i, err := c.Instance(ctx, id)
		if err != nil {
			return i, fmt.Errorf("show: %w", err)
		}
		switch i.Status {
		case "ACTIVE":
			return i, nil
		case "ERROR":
			return i, fmt.Errorf("the create failed: %+v", i.Fault)
		}
		select {
		case <-ctx.Done():
			return i, fmt.Errorf("wait for the instance: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// usage is processor time, and memory that only the agent has, in bytes.
type usage struct {
	agent, engine time.Duration
	memory        int64
}

// ticks is the unit of /proc/PID/stat's times (proc_pid_stat(5)): USER_HZ, which is 100 on every Linux that this runs on.
const ticks = 10 * time.Millisecond

// look adds up the processes of an instance: they are in control groups that have its id in their path.
func look(instance string) (usage, error) {
	var u usage
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return u, err
	}
	for _, f := range files {
		groups, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(groups), instance) {
			continue // it has ended
		}
		dir := filepath.Dir(f)
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		name, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 15 {
			return u, fmt.Errorf("%s/stat is %q", dir, stat)
		}
		var spent time.Duration
		for _, n := range []int{11, 12, 13, 14} { // utime, stime, and those of children that were waited for
			v, err := strconv.ParseInt(fields[n], 10, 64)
			if err != nil {
				return u, fmt.Errorf("%s/stat: %w", dir, err)
			}
			spent += time.Duration(v) * ticks
		}
		if !strings.Contains(name, "(trove-guestagen") { // the kernel cuts names
			u.engine += spent
			continue
		}
		u.agent += spent
		u.memory += resident(dir)
	}
	if u.agent == 0 && u.memory == 0 {
		return u, errors.New("the instance has no agent on this machine")
	}
	return u, nil
}

func resident(dir string) int64 {
	status, _ := os.ReadFile(dir + "/status")
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// command runs a program whose secrets come from its environment or files, and returns what it printed.
func command(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return string(out), nil
}
