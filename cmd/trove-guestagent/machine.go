package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/trove-dbaas/trove/guestagent/machine"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// runMachine makes a virtual machine ready. What it does is said on the console; the error goes to the journal too.
func runMachine(args []string, stderr io.Writer) error {
	var cfg machine.Config
	flags := flag.NewFlagSet("machine", flag.ContinueOnError)
	console := flags.String("console", "/dev/console", "device where each step is said")
	flags.StringVar(&cfg.Data, "data", imagelayout.DataDir, "mount point of the data volume")
	if err := parse(flags, args, false, stderr); err != nil {
		return err
	}
	if *console != "" {
		f, err := os.OpenFile(*console, os.O_WRONLY|syscall.O_NOCTTY, 0)
		if err != nil {
			return fmt.Errorf("open the console: %w", err)
		}
		defer f.Close()
		cfg.Console = f
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return machine.Run(ctx, cfg)
}
