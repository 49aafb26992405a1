package postgresql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/execx"
)

// versionTimeout bounds a question for the version; it takes 10 ms.
const versionTimeout = 10 * time.Second

// environment is all that the server and its programs get to see. A backend raises its score above the server's own: short of memory, the kernel ends a
// backend, and the server goes on after a recovery of its own.
var environment = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj", "PG_OOM_ADJUST_VALUE=200"}

// binDir finds the programs below a root file system, those of the newest version if there are several, as on a machine that tests run on.
func binDir(root string) (string, error) {
	found, err := filepath.Glob(filepath.Join("/", root, "usr/lib/postgresql/*/bin/postgres"))
	if err != nil {
		return "", fmt.Errorf("find the programs: %w", err)
	}
	dir, newest := "", 0
	for _, path := range found {
		n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		if err == nil && n > newest {
			dir, newest = filepath.Dir(path), n
		}
	}
	if dir == "" {
		return "", trove.Errorf(trove.KindInternal, "The server's programs are not in the image.")
	}
	return dir, nil
}

// program returns the path of one of the product's programs.
func (p place) program(name string) (string, error) {
	dir, err := binDir(p.Root)
	return filepath.Join(dir, name), err
}

// major returns the version of the programs: 15.
func (p place) major() (int, error) {
	dir, err := binDir(p.Root)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(filepath.Base(filepath.Dir(dir)))
}

var versionPattern = regexp.MustCompile(`\) ([0-9]+(?:\.[0-9]+|devel|beta[0-9]+|rc[0-9]+))`)

// programsVersion asks the program: 15.14.
func (p place) programsVersion(ctx context.Context) (string, error) {
	path, err := p.program("postgres")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := execx.Run(ctx, execx.Cmd{Path: path, Args: []string{"--version"}, Env: environment, Dir: "/"})
	if err != nil {
		return "", fmt.Errorf("ask for the version of the programs: %w", err)
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("ask for the version of the programs: it says %q", out)
	}
	return string(m[1]), nil
}

// dataMajor returns the version that the data directory is of, 0 if there is none. The account of the engine may write in it: no link is followed out of it.
func dataMajor(dir string) (int, error) {
	tree, err := os.OpenRoot(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of the data: %w", err)
	}
	defer func() { _ = tree.Close() }()
	text, err := tree.ReadFile("PG_VERSION")
	if err != nil {
		return 0, fmt.Errorf("read the version of the data: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read the version of the data: %w", err)
	}
	return n, nil
}

// asEngine runs a program as the engine's account; somebody who is not root can only be himself.
func (p place) asEngine() *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(p.UID), Gid: uint32(p.GID)}}
}

// run runs one of the programs as the engine's account.
func (p place) run(ctx context.Context, stdin, name string, args ...string) error {
	path, err := p.program(name)
	if err != nil {
		return err
	}
	_, err = execx.Run(ctx, execx.Cmd{Path: path, Args: args, Env: environment, Dir: "/", Attr: p.asEngine(), Stdin: strings.NewReader(stdin)})
	return err
}

// accountName is the operating system's name of an account.
func accountName(uid int) (string, error) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return "", fmt.Errorf("find the engine's account: %w", err)
	}
	return u.Username, nil
}

// readPlain reads a file that the engine's account wrote; no link is followed out of its directory.
func readPlain(path string) ([]byte, error) {
	tree, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = tree.Close() }()
	return tree.ReadFile(filepath.Base(path))
}
