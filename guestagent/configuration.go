package guestagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

// revisionFile holds the highest revision of the configuration that was heard of, in the agent's own directory.
const revisionFile = "configuration.revision"

// applyConfiguration answers CmdApplyConfiguration. The revision is written down before the engine is told: after a crash between the two the same
// revision may come again, an older one may not.
func applyConfiguration(ctx context.Context, a *Agent, r guestapi.Request) (any, error) {
	var args guestapi.ApplyConfigurationArgs
	if err := decodeArgs(r, &args); err != nil {
		return nil, err
	}
	e, ok := a.cfg.Engine.(engine.Configurable)
	if !ok {
		return nil, trove.Errorf(trove.KindNotImplemented, "The parameters of this database cannot be set.")
	}
	a.configuring.Lock()
	defer a.configuring.Unlock()
	if err := ctx.Err(); err != nil { // it waited for another one
		return nil, err
	}
	heard, err := readRevision(a.cfg.Layout.State)
	if err != nil {
		return nil, err
	}
	if args.Revision < heard {
		return nil, trove.Errorf(trove.KindConflict, "The guest has heard of a newer configuration already.")
	}
	if args.Revision > heard {
		if err := writeRevision(a.cfg.Layout.State, args.Revision); err != nil {
			return nil, err
		}
	}
	restart, err := e.Apply(ctx, a.cfg.Layout, args.Overrides)
	return guestapi.ConfigurationApplied{Restart: restart}, err
}

func readRevision(state string) (int64, error) {
	data, err := os.ReadFile(filepath.Join(state, revisionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var n int64
	if err == nil {
		n, err = strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	}
	if err != nil {
		return 0, fmt.Errorf("read the revision of the configuration: %w", err)
	}
	return n, nil
}

func writeRevision(state string, n int64) error {
	return atomicfile.Write(filepath.Join(state, revisionFile), []byte(strconv.FormatInt(n, 10)+"\n"), 0o600)
}

// needsEngine makes a command of one that needs the engine to be up and the whole agent.
func needsEngine(f shortFunc) shortFunc {
	return func(ctx context.Context, a *Agent, r guestapi.Request) (any, error) {
		return asked(func(ctx context.Context, _ server, r guestapi.Request) (any, error) { return f(ctx, a, r) })(ctx, a, r)
	}
}
