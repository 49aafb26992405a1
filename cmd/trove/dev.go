package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/execx"
)

// startTimeout is how long a start in the background may take until it answers.
const startTimeout = 60 * time.Second

// stopTimeout is how long a stop may take; what is running is handed to the next start.
const stopTimeout = 30 * time.Second

func devCommand() *cobra.Command {
	var o stateOptions
	dev := &cobra.Command{
		Use: "dev", Short: "The whole service in one process, with databases in sandboxes on this machine (root)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.flags(dev)
	var readyFD int
	run := &cobra.Command{
		Use: "run", Short: "Run in the foreground until SIGINT or SIGTERM; databases go on", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return devRun(cmd.Context(), o, readyFD) },
	}
	run.Flags().IntVar(&readyFD, "ready-fd", 0, "")
	_ = run.Flags().MarkHidden("ready-fd")
	var force bool
	destroy := &cobra.Command{
		Use: "destroy", Short: "Remove all instances with their data, and all that the service made on this machine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return devDestroy(cmd.Context(), o, force) },
	}
	destroy.Flags().BoolVar(&force, "force", false, "do not ask")
	dev.AddCommand(
		run, destroy,
		&cobra.Command{
			Use: "start", Short: "Run in the background and return when it answers", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return devStart(cmd.Context(), o) },
		},
		&cobra.Command{
			Use: "stop", Short: "Stop it, whoever started it; databases go on", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return devStop(cmd.Context(), o) },
		},
		&cobra.Command{
			Use: "status", Short: "Say whether it runs", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return devStatus(o) },
		},
	)
	return dev
}

// stateOptions are the flags of every command that works on a state directory.
type stateOptions struct {
	state, file, listen, metrics string

	stateGiven func() bool // whether --state was; nil: there is no such flag
}

func (o *stateOptions) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	o.stateFlag(f, "var/dev")
	f.StringVar(&o.file, "config", "", "configuration file (trove.yaml in the state directory)")
	f.StringVar(&o.listen, "listen", "", "address and port of the API (127.0.0.1:8779)")
}

// stateVariable names the state directory where --state does not.
const stateVariable = "TROVE_STATE"

// stateFlag is --state with the directory that is taken where nobody says one.
func (o *stateOptions) stateFlag(f *pflag.FlagSet, usual string) {
	const name = "state"
	f.StringVar(&o.state, name, usual, "state directory: everything is kept under it; or TROVE_STATE, or the key state of --config")
	o.stateGiven = func() bool { return f.Changed(name) }
}

// dir returns the state directory as far as it is known without a configuration: that of --state, else that of the environment, else the usual one.
func (o stateOptions) dir() (dir string, given bool) {
	if o.stateGiven != nil && o.stateGiven() {
		return o.state, true
	}
	if dir = os.Getenv(stateVariable); dir != "" {
		return dir, true
	}
	return o.state, false
}

func (o stateOptions) config() (config.Config, app.StateDir, error) {
	dir, given := o.dir()
	state, err := filepath.Abs(dir)
	if err != nil {
		return config.Config{}, "", fmt.Errorf("the state directory: %w", err)
	}
	file := o.file
	if file == "" {
		file = app.StateDir(state).ConfigFile()
	}
	environ := slices.DeleteFunc(os.Environ(), func(e string) bool { return e == stateVariable+"=" }) // empty: as if it were not there
	c, err := config.Load(file, environ)
	if err != nil {
		return config.Config{}, "", err
	}
	if given || !config.SaysState(file) {
		c.State = state
	}
	if o.listen != "" {
		c.API.Listen = o.listen
	}
	if o.metrics != "" {
		c.Metrics.Listen = o.metrics
	}
	return c, app.StateDir(c.State), c.Check()
}

// needRoot is asked before anything else, so that nothing half-made is left and no other error hides it.
func needRoot() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return trove.Errorf(trove.KindForbidden, "This makes sandboxes, volumes and networks on this machine and needs root: run it as root, or with sudo.")
}

func devRun(ctx context.Context, o stateOptions, readyFD int) (err error) {
	if err := needRoot(); err != nil {
		return err
	}
	c, _, err := o.config()
	if err != nil {
		return err
	}
	if c.API.RateLimit == config.RateDefault {
		c.API.RateLimit = 0 // there is nobody to be protected from
	}
	ready := func(url string) {
		tellReady()
		fmt.Fprintf(os.Stderr, "the API answers on %s; %s\n", url, howToLogIn(c))
	}
	if readyFD > 0 {
		pipe := os.NewFile(uintptr(readyFD), "ready")
		ready = func(url string) {
			fmt.Fprintln(pipe, "ready", url)
			_ = pipe.Close()
		}
		defer func() {
			if err != nil {
				fmt.Fprintln(pipe, "error", trove.MessageOf(err))
			}
		}()
	}
	return app.Run(ctx, c, app.AllComponents, ready)
}

// devStart starts the service in a session of its own and waits until it says that it is ready, or why it is not.
func devStart(ctx context.Context, o stateOptions) error {
	if err := needRoot(); err != nil {
		return err
	}
	c, state, err := o.config()
	if err != nil {
		return err
	}
	if err := state.Make(); err != nil {
		return err
	}
	if running, err := state.Running(); err != nil || running.All != 0 { // single components are in the way: the service itself says so
		if err == nil {
			fmt.Fprintf(os.Stderr, "it runs already (process %d)\n", running.All)
		}
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	log, err := os.OpenFile(state.LogFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer log.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer read.Close()
	args := []string{"dev", "run", "--ready-fd", "3", "--state", c.State, "--listen", c.API.Listen}
	if o.file != "" {
		args = append(args, "--config", o.file)
	}
	// The context of this command must not end the service.
	cmd := execx.Command(context.WithoutCancel(ctx), execx.Cmd{
		Path: self, Args: args, Env: os.Environ(), Attr: &syscall.SysProcAttr{Setsid: true}, ExtraFiles: []*os.File{write},
	})
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the service: %w", err)
	}
	_ = write.Close()
	go func() { _ = cmd.Wait() }()
	return awaitReady(ctx, read, state)
}

func awaitReady(ctx context.Context, read *os.File, state app.StateDir) error {
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(read).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(startTimeout):
		return trove.Errorf(trove.KindUnavailable, "The service did not answer within %s; its log is %s.", startTimeout, state.LogFile())
	case line := <-answer:
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "ready":
			fmt.Fprintf(os.Stderr, "the API answers on %s\n", rest)
			return nil
		case "error":
			return trove.Errorf(trove.KindUnavailable, "%s (log: %s)", rest, state.LogFile())
		}
		return trove.Errorf(trove.KindUnavailable, "The service ended before it was ready; its log is %s.", state.LogFile())
	}
}

func devStop(ctx context.Context, o stateOptions) error {
	_, state, err := o.config()
	if err != nil {
		return err
	}
	running, err := state.Running()
	if err != nil {
		return err
	}
	pids := running.Processes()
	if len(pids) == 0 {
		fmt.Fprintln(os.Stderr, "it does not run")
		return nil
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end process %d: %w", pid, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for {
		if running, err = state.Running(); err != nil || len(running.Processes()) == 0 {
			return err
		}
		if err := clock.Sleep(ctx, 20*time.Millisecond); err != nil {
			return trove.Errorf(trove.KindUnavailable, "It did not end within %s (%s); its log is %s.", stopTimeout, running, state.LogFile())
		}
	}
}

func devStatus(o stateOptions) error {
	c, state, err := o.config()
	if err != nil {
		return err
	}
	running, err := state.Running()
	switch missing := strings.Join(running.Missing(), ", "); {
	case err != nil:
		return err
	case len(running.Processes()) == 0:
		return trove.Errorf(trove.KindUnavailable, "It does not run from %s.", state)
	case missing != "":
		return trove.Errorf(trove.KindUnavailable, "It runs only in part from %s (%s); missing: %s.", state, running, missing)
	}
	fmt.Fprintf(os.Stdout, "it runs from %s (%s), API http://%s\n", state, running, c.API.Listen)
	return nil
}

// devDestroy lists what there is, asks, stops the service and removes everything.
func devDestroy(ctx context.Context, o stateOptions, force bool) error {
	if err := needRoot(); err != nil {
		return err
	}
	c, state, err := o.config()
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.State); os.IsNotExist(err) {
		fmt.Fprintf(os.Stderr, "there is nothing under %s\n", c.State)
		return nil
	}
	instances, err := app.Instances(ctx, c)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d instances under %s will be removed with all their data:\n", len(instances), c.State)
	for _, i := range instances {
		fmt.Fprintf(os.Stderr, "  %s  %s\n", i.ID, i.Name)
	}
	if !force {
		fmt.Fprint(os.Stderr, "Type yes to go on: ")
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) || strings.TrimSpace(line) != "yes" {
			return trove.Errorf(trove.KindConflict, "Nothing was removed.")
		}
	}
	if err := devStop(ctx, o); err != nil {
		return err
	}
	// From here on an impatient second SIGINT would leave half of it: only the first one is heeded before.
	signal.Ignore(syscall.SIGINT)
	if err := app.Destroy(context.WithoutCancel(ctx), c); err != nil {
		return err
	}
	if err := os.RemoveAll(string(state)); err != nil {
		return fmt.Errorf("remove the state directory: %w", err)
	}
	return nil
}
