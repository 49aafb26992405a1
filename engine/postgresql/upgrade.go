package postgresql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
	"github.com/trove-dbaas/trove/internal/execx"
)

// upgraded is a file in a new data directory whose upgrade came to its end: only the names of the directories are left to be changed.
const upgraded = "trove-upgraded"

// Versions implements engine.Upgrader.
func (e *Engine) Versions(ctx context.Context, l engine.Layout) (programs, data string, err error) {
	p := place{l}
	if programs, err = p.programsVersion(ctx); err != nil {
		return "", "", err
	}
	major, err := dataMajor(p.dataDir())
	if err != nil || major == 0 {
		return programs, "", err
	}
	k, err := p.readKept()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", err
	}
	data = strconv.Itoa(major)
	if strings.HasPrefix(k.Programs, data+".") { // of before a way back otherwise
		data = k.Programs
	}
	return programs, data, nil
}

// Upgrade implements engine.Upgrader by pg_upgrade. The new data directory is made beside the old one and gets the tables' files as hard links: no byte of
// a table is copied, and none is written until the new server starts, which the old one must not after it. A copy of the old directory that lies elsewhere has
// files of its own and is not touched.
//
//	pgsql (old)                         what a kill leaves           a repetition
//	pgsql, pgsql.new being made         pg_upgrade did not end       removes pgsql.new and begins again
//	pgsql, pgsql.new with the mark      it ended                     changes the names
//	pgsql.old, pgsql.new                between the two names        goes on
//	pgsql (new), pgsql.old              being removed                goes on
func (e *Engine) Upgrade(ctx context.Context, l engine.Layout, previous string, progress engine.Progress) error {
	p := place{l}
	e.mu.Lock()
	defer e.mu.Unlock()
	to, err := p.major()
	if err != nil {
		return err
	}
	from, err := dataMajor(p.dataDir())
	if err != nil {
		return err
	}
	done, err := guestfiles.Exists(filepath.Join(p.newDir(), upgraded))
	if err != nil {
		return err
	}
	if !done {
		switch {
		case from == 0:
			return trove.Errorf(trove.KindConflict, "There is no data directory to upgrade.")
		case from > to:
			return trove.Errorf(trove.KindBadRequest, "The data is of PostgreSQL %d, which is newer than %d: there is no way back to an older version but a backup.", from, to)
		case from == to:
			return p.tidy(progress)
		}
		if err := p.upgrade(ctx, from, to, previous, progress); err != nil {
			return err
		}
	}
	if err := p.exchange(); err != nil {
		return err
	}
	return p.tidy(progress)
}

// upgrade makes the new data directory.
func (p place) upgrade(ctx context.Context, from, to int, previous string, progress engine.Progress) error {
	if previous == "" {
		return trove.Errorf(trove.KindUnavailable, "The programs of PostgreSQL %d, which wrote the data, are not there.", from)
	}
	progress(fmt.Sprintf("making the system tables of PostgreSQL %d", to), 5)
	if err := p.relink(); err != nil {
		return err
	}
	if err := p.makeCluster(ctx); err != nil {
		return err
	}
	if err := p.remakeWork(); err != nil {
		return err
	}
	old, env, err := p.oldPrograms(ctx, previous, from)
	if err != nil {
		return err
	}
	account, err := p.engineAccount()
	if err != nil {
		return err
	}
	hba, idents := filepath.Join(p.workDir(), "pg_hba.conf"), filepath.Join(p.workDir(), "pg_ident.conf")
	for file, text := range map[string]string{hba: "local all " + adminName + " peer map=" + adminMap + "\n", idents: ident(account)} {
		if err := guestfiles.Write(file, []byte(text), 0o400, p.UID, p.GID); err != nil {
			return err
		}
	}
	// Only those who map to the agent's role come in, through a socket in the directory of this upgrade.
	options := "-c hba_file=" + hba + " -c ident_file=" + idents + " -c max_locks_per_transaction=1024 -c autovacuum=off"
	args := []string{
		"--old-bindir=" + old, "--old-datadir=" + p.dataDir(), "--new-datadir=" + p.newDir(), "--username=" + adminName, "--old-options=" + options,
		"--new-options=" + options, "--link", "--socketdir=" + p.workDir(), "--jobs=1",
	}
	bin, err := binDir(p.Root)
	if err != nil {
		return err
	}
	run := execx.Cmd{
		Path: filepath.Join(bin, "pg_upgrade"), Args: append(args, "--new-bindir="+bin), Env: env, Dir: p.workDir(), Attr: p.asEngine(),
	}
	check := run
	check.Args = append(slices.Clone(run.Args), "--check")
	progress("asking pg_upgrade what is in the way", 15)
	if out, err := execx.Run(ctx, check); err != nil {
		return trove.Wrap(trove.KindUnprocessable, err, "The data cannot be upgraded to PostgreSQL %d: %s", to, p.findings(out))
	}
	progress(fmt.Sprintf("taking the data over from PostgreSQL %d", from), 30)
	if out, err := execx.Run(ctx, run); err != nil {
		said := p.findings(out)
		if strings.Contains(said, "unrecognized parameter") {
			return trove.Wrap(trove.KindUnprocessable, err, "The data is of a newer release of PostgreSQL %d than the release of %d in the new image knows of: make a newer "+
				"image first. It says: %s", from, to, said)
		}
		return trove.Wrap(trove.KindInternal, err, "The upgrade to PostgreSQL %d failed: %s", to, said)
	}
	return p.mark()
}

// relink undoes what a killed pg_upgrade did to the old directory: before it links it puts the control file aside, so that no server is started there. The new
// server has never been started on the linked files, so they are as they were.
func (p place) relink() error {
	tree, err := os.OpenRoot(p.dataDir())
	if err != nil {
		return fmt.Errorf("open the data directory: %w", err)
	}
	defer func() { _ = tree.Close() }()
	err = tree.Rename(controlFile+".old", controlFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("bring the control file back: %w", err)
	}
	return nil
}

func (p place) remakeWork() error {
	if err := os.RemoveAll(p.workDir()); err != nil {
		return fmt.Errorf("remove what an earlier upgrade left: %w", err)
	}
	return guestfiles.EnsureDir(p.workDir(), 0o700, p.UID, p.GID)
}

// mark says in the new directory that it is whole, and that its tables have no statistics yet.
func (p place) mark() error {
	k, err := p.readKept()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	k.Analyse = true
	if err := p.writeKept(k); err != nil {
		return err
	}
	unix.Sync() // pg_upgrade syncs the tables; the directories' names are ours
	tree, err := os.OpenRoot(p.newDir())
	if err != nil {
		return fmt.Errorf("end the upgrade: %w", err)
	}
	defer func() { _ = tree.Close() }()
	if err := tree.WriteFile(upgraded, nil, 0o600); err != nil {
		return fmt.Errorf("end the upgrade: %w", err)
	}
	return nil
}

// exchange gives the new directory the name of the data.
func (p place) exchange() error {
	old, err := guestfiles.Exists(p.dataDir())
	if err != nil {
		return err
	}
	if old {
		if err := os.RemoveAll(p.oldDir()); err != nil {
			return fmt.Errorf("remove an older data directory: %w", err)
		}
		if err := os.Rename(p.dataDir(), p.oldDir()); err != nil {
			return fmt.Errorf("put the old data directory aside: %w", err)
		}
	}
	if err := os.Rename(p.newDir(), p.dataDir()); err != nil {
		return fmt.Errorf("name the data directory: %w", err)
	}
	return nil
}

// tidy removes what is not needed any more: the old directory's names of files that the new one has too.
func (p place) tidy(progress engine.Progress) error {
	progress("removing what the upgrade left", 95)
	for _, dir := range []string{p.oldDir(), p.newDir(), p.workDir()} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove what the upgrade left: %w", err)
		}
	}
	tree, err := os.OpenRoot(p.dataDir())
	if err != nil {
		return fmt.Errorf("open the data directory: %w", err)
	}
	defer func() { _ = tree.Close() }()
	if err := tree.Remove(upgraded); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the mark of the upgrade: %w", err)
	}
	return nil
}

// engineAccount is the name that the operating system has for the engine's account.
func (p place) engineAccount() (string, error) {
	if os.Geteuid() != 0 {
		return agentAccount()
	}
	return accountName(p.UID)
}

// findings is what pg_upgrade says is in the way, without what was well, and then what the files say that it wrote about it.
func (p place) findings(said []byte) string {
	const most = 1500
	var lines []string
	for line := range strings.Lines(string(said)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasSuffix(line, " ok") && strings.Trim(line, "-") != "" {
			lines = append(lines, line)
		}
	}
	const reports = "pg_upgrade_output.d/*/"
	for pattern, errorsOnly := range map[string]bool{reports + "*.txt": false, reports + "log/pg_upgrade_dump_*.log": true} {
		found, _ := filepath.Glob(filepath.Join(p.newDir(), pattern))
		for _, f := range found {
			data, err := readPlain(f)
			if err != nil {
				continue
			}
			text := string(data)
			if i := strings.Index(text, "error: "); errorsOnly {
				if i < 0 {
					continue
				}
				text, _, _ = strings.Cut(text[i:], "\n") // without the statement after it
			}
			for line := range strings.Lines(text) {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	text := strings.Join(lines, " / ")
	for len(text) > most && len(lines) > 1 { // the end says more than the beginning
		lines = lines[1:]
		text = strings.Join(lines, " / ")
	}
	return shorten(text, most)
}

// oldPrograms returns the directory with the programs of the old version and the environment that they need. They are scripts of this image (see its recipe),
// as nothing can be run from where a guest can write, and they run the old image's programs by its own loader with its own libraries: what those link is not
// here. A loader that is given a program's path needs no right to change the root, which a guest does not have.
func (p place) oldPrograms(ctx context.Context, previous string, major int) (dir string, env []string, err error) {
	bin := filepath.Join(previous, "usr/lib/postgresql", strconv.Itoa(major), "bin/postgres")
	if there, err := guestfiles.Exists(bin); err != nil || !there {
		return "", nil, errors.Join(err, trove.Errorf(trove.KindUnavailable, "The programs of PostgreSQL %d, which wrote the data, are not in the old image.", major))
	}
	dir = filepath.Join("/", p.Root, "usr/lib/trove/previous")
	env = append(slices.Clone(environment), "TROVE_PREVIOUS="+previous, "TROVE_PREVIOUS_VERSION="+strconv.Itoa(major))
	// Said here and not by pg_upgrade, whose words for it lead nowhere.
	if _, err := execx.Run(ctx, execx.Cmd{Path: filepath.Join(dir, "postgres"), Args: []string{"--version"}, Env: env, Dir: "/", Attr: p.asEngine()}); err != nil {
		return "", nil, fmt.Errorf("run the programs of the old image: %w", err)
	}
	return dir, env, nil
}
