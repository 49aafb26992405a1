package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/internal/execx"
)

var versionPattern = regexp.MustCompile(`\bv=([0-9]+\.[0-9]+[0-9.]*)`)

// Versions implements engine.Upgrader. That of the data was noted when it was last served: the files themselves name the version that began them.
func (e *Engine) Versions(ctx context.Context, l engine.Layout) (programs, data string, err error) {
	p := e.at(l)
	out, err := execx.Run(ctx, execx.Cmd{Path: p.program(), Args: []string{"--version"}, Env: environment, Dir: "/", Attr: p.asEngine()})
	if err != nil {
		return "", "", fmt.Errorf("ask for the version of the programs: %w", err)
	}
	words := versionPattern.FindSubmatch(out)
	if words == nil {
		return "", "", fmt.Errorf("ask for the version of the programs: %q is not understood", out)
	}
	k, err := p.readKept()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", err
	}
	return string(words[1]), k.Version, nil
}

// older reports whether version a is before b. Releases of one minor version read each other's files.
func older(a, b string) bool {
	minor := func(v string) int {
		major, rest, _ := strings.Cut(v, ".")
		minor, _, _ := strings.Cut(rest, ".")
		m, _ := strconv.Atoi(major)
		n, _ := strconv.Atoi(minor)
		return m*1000 + n
	}
	return minor(a) < minor(b)
}

func (e *Engine) noDowngrade(from, to string) string {
	return fmt.Sprintf("%s %s cannot read what %s wrote: an older version refuses the files of a newer one.", e.product.title, to, from)
}

// gone are parameters that a version does not start with any more, by the version that has them no more.
var gone = map[string]string{"aof-disable-auto-gc": "7.2"}

// CheckUpgrade implements engine.Upgrader.
func (e *Engine) CheckUpgrade(ctx context.Context, l engine.Layout, version string) ([]engine.Finding, error) {
	p := e.at(l)
	var all []engine.Finding
	block := func(format string, args ...any) {
		all = append(all, engine.Finding{Blocks: true, Sentence: fmt.Sprintf(format, args...)})
	}
	err := p.with(ctx, func(c conn) error {
		fields, err := c.info(ctx, "server", "persistence")
		if err != nil {
			return err
		}
		if now := fields[e.product.number]; older(version, now) {
			block("%s", e.noDowngrade(now, version))
		}
		for field, what := range map[string]string{"aof_last_write_status": "append-only file", "aof_last_bgrewrite_status": "rewrite of the append-only file"} {
			if status := fields[field]; status != "ok" && status != "" {
				block("The server could not write its %s the last time that it tried: not all of the data is on the volume. Give it room and try again.", what)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	k, err := p.readKept()
	if err != nil {
		return nil, err
	}
	for name, last := range gone {
		if _, set := k.Settings.Overrides[name]; set && !older(version, last) {
			block("Version %s has no parameter %s. Take it out of the configuration group.", version, name)
		}
	}
	return all, nil
}

// Upgrade implements engine.Upgrader. A newer server reads the files of an older one as they are; the other way round is refused here, and would be by the
// server.
func (e *Engine) Upgrade(ctx context.Context, l engine.Layout, _ string, progress engine.Progress) error {
	programs, data, err := e.Versions(ctx, l)
	if err != nil {
		return err
	}
	if data != "" && older(programs, data) {
		return trove.Errorf(trove.KindBadRequest, "%s", e.noDowngrade(data, programs))
	}
	progress("the data needs no conversion", 100)
	return nil
}

// FinishUpgrade implements engine.Upgrader. The server has no system tables and no indexes that hang on a collation.
func (e *Engine) FinishUpgrade(ctx context.Context, l engine.Layout, _ engine.Progress) ([]string, error) {
	return nil, e.Ping(ctx, l)
}
