package postgresql

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/internal/execx"
)

// tryTimeout bounds a trial; it takes 50 ms.
const tryTimeout = 8 * time.Second

// reserve is what a machine needs beside the server's shared memory, in MiB: sessions, the agent, and the kernel's own.
const reserve = 96

// words finds what a trial says against a setting, the first line of it.
var words = regexp.MustCompile(`(?m)^(?:.*?(?:LOG|FATAL|ERROR|PANIC):\s+|postgres: )(.+)$`)

// try lets the program read the settings without serving and say how much shared memory it would take: it goes through the checks of a start, with the control
// file of the data directory in an empty one. What it says no to would keep the server from starting, and so would more memory than the machine has. Without
// overrides there is nothing to try.
func (p place) try(ctx context.Context, s engine.Settings, logs ...string) error {
	if len(s.Overrides) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp(p.runtime(), "trial") // in the tmpfs
	if err != nil {
		return fmt.Errorf("try the settings: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	config := filepath.Join(dir, "postgresql.conf")
	if err := p.makeTrial(dir, config, s, logs); err != nil {
		return err
	}
	path, err := p.program("postgres")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	var said strings.Builder
	out, err := execx.Run(ctx, execx.Cmd{
		Path: path, Args: []string{"-D", dir, "-c", "config_file=" + config, "-c", "logging_collector=off", "-C", "shared_memory_size"},
		Env: environment, Dir: "/", Attr: p.asEngine(), Stderr: &said,
	})
	if ctx.Err() != nil {
		return trove.Wrap(trove.KindUnavailable, err, "The settings could not be tried in time.")
	}
	if err != nil {
		text := "."
		if found := words.FindStringSubmatch(said.String()); found != nil {
			text = ": " + strings.TrimSuffix(strings.ReplaceAll(found[1], config, "the settings"), ".") + "."
		}
		return trove.Wrap(trove.KindBadRequest, err, "The database would not start with these values%s", text)
	}
	need, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return fmt.Errorf("try the settings: it says %q", out)
	}
	if s.RAM > 0 && need > max(s.RAM, smallestRAM)-reserve {
		return trove.Errorf(trove.KindBadRequest, "With these values the database takes %d MiB of shared memory, and the instance has %d MiB of memory, of which %d are for the rest.",
			need, s.RAM, reserve)
	}
	return nil
}

// autoConf is what ALTER SYSTEM writes, which nobody may run: the server says a word about it where it is missing.
const autoConf = "postgresql.auto.conf"

// makeTrial makes a directory that is enough of a data directory for a trial.
func (p place) makeTrial(dir, config string, s engine.Settings, logs []string) error {
	text, err := p.render(s, logs...)
	if err != nil {
		return err
	}
	tree, err := os.OpenRoot(p.dataDir())
	if err != nil {
		return fmt.Errorf("try the settings: %w", err)
	}
	defer func() { _ = tree.Close() }()
	if err := os.Mkdir(filepath.Join(dir, "global"), 0o700); err != nil {
		return fmt.Errorf("try the settings: %w", err)
	}
	for _, name := range []string{"PG_VERSION", controlFile} {
		data, err := tree.ReadFile(name)
		if err != nil {
			return fmt.Errorf("try the settings: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return fmt.Errorf("try the settings: %w", err)
		}
	}
	for path, data := range map[string][]byte{config: text, filepath.Join(dir, autoConf): nil} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return fmt.Errorf("try the settings: %w", err)
		}
	}
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"", "global", "PG_VERSION", controlFile, filepath.Base(config), autoConf} {
		if err := os.Lchown(filepath.Join(dir, name), p.UID, p.GID); err != nil {
			return fmt.Errorf("try the settings: %w", err)
		}
	}
	return nil
}
