// Package machine makes a virtual machine ready for the agent: it reads the config drive, sets name and network, finds the data volume, formats it if it is
// a new one, and writes the boot data where the agent looks for it. In a sandbox of the local cloud the host does all of that.
//
// Run is called once at each start of the machine, as root, before the agent. It may be run again after a failure: what is done stays, and is not done
// twice. It says each step on the console, because until the agent is on the bus nothing else of the machine can be seen from outside. A data volume is
// formatted if every byte that is looked at is zero, and in no other case.
//
// Grow is for the agent: it makes the file system fill a volume that has grown.
package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/execx"
	"github.com/trove-dbaas/trove/internal/growfs"
	"github.com/trove-dbaas/trove/internal/imagelayout"
	"github.com/trove-dbaas/trove/internal/machinedata"
	"github.com/trove-dbaas/trove/internal/netns"
)

// Config says where things are. Zero values are those of a real machine.
type Config struct {
	Console io.Writer // nil: nothing is said

	Root     string // prefix of the kernel's directories and of all that is written; "": the machine's own
	Data     string // mount point of the data volume
	Previous string // mount point of the root that the instance had before
	BootDir  string // where the boot data is written, on a tmpfs
	Runtime  string // directory of this package, on a tmpfs
	// Management is the file that the network namespace of the management interface is bound to, if the machine data asks for one.
	Management string

	DriveWait time.Duration // for the config drive; 90 s
	DiskWait  time.Duration // for each volume; 3 min: one may be attached after the start
	LinkWait  time.Duration // for the interfaces; 60 s
	Poll      time.Duration // 100 ms

	Kernel Kernel // nil: the machine's
}

// Kernel is what Run asks of the machine beyond reading and writing files; a test takes another.
type Kernel interface {
	Mount(source, target, kind string, flags uintptr, options string) error
	Unmount(target string) error
	SetHostname(name string) error
	Run(ctx context.Context, stdin, program string, args ...string) error
	// Fill makes a file system fill its device of size bytes.
	Fill(mountpoint string, size int64) (grown bool, err error)
	Uptime() time.Duration
	// Namespace makes a network namespace that is bound to the path, if there is none. Within does something on a thread in it; programs are run there too.
	Namespace(path string) error
	Within(path string, do func() error) error
	// Links returns the names of the network interfaces by their hardware addresses, in the thread's namespace.
	Links() (map[string]string, error)
}

type machine struct {
	Config
	data machinedata.Data
	meta machinedata.MetaData
	mgmt []link // with the role management
	user []link
}

// Run makes the machine ready. An error is a sentence that was said on the console too.
func Run(ctx context.Context, cfg Config) error {
	m := &machine{Config: cfg.filled()}
	m.say("the guest starts, the clock says %s", clock.System{}.Now().Format(time.RFC3339))
	for _, step := range []func(context.Context) error{
		m.closeRuntime, m.readDrive, m.setName, m.setNetwork, m.openData, m.openPrevious, m.writeBoot,
	} {
		if err := step(ctx); err != nil {
			m.say("FAILED: %v", err)
			return err
		}
	}
	m.say("the machine is ready, the agent of instance %s starts", m.data.Boot.Instance)
	return nil
}

func (c Config) filled() Config {
	text := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	wait := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	text(&c.Data, imagelayout.DataDir)
	text(&c.Previous, imagelayout.PreviousDir)
	text(&c.BootDir, imagelayout.BootDir)
	text(&c.Runtime, "/run/trove-machine")
	text(&c.Management, imagelayout.ManagementNetns)
	wait(&c.DriveWait, 90*time.Second)
	wait(&c.DiskWait, 3*time.Minute)
	wait(&c.LinkWait, time.Minute)
	wait(&c.Poll, 100*time.Millisecond)
	if c.Kernel == nil {
		c.Kernel = kernel{}
	}
	if c.Console == nil {
		c.Console = io.Discard
	}
	return c
}

// at is a path of the machine.
func (c Config) at(parts ...string) string {
	return filepath.Join(append([]string{"/", c.Root}, parts...)...)
}

// say writes a line on the console, where a person reads it: Nova shows it as the console log.
func (c Config) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(c.Console, "[trove %7.2f] %s\n", c.Kernel.Uptime().Seconds(), strings.ReplaceAll(text, "\n", "; "))
}

// until looks again and again; look returns false while it is not there. The error says what was waited for.
func (c Config) until(ctx context.Context, limit time.Duration, what string, look func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for said := false; ; said = true {
		done, err := look()
		if done || err != nil {
			return err
		}
		if !said {
			c.say("waiting for %s, for %s at most", what, limit)
		}
		if err := clock.Sleep(ctx, c.Poll); err != nil {
			return fmt.Errorf("%s did not come within %s", what, limit)
		}
	}
}

// closeRuntime sees to it that nothing that an account can write can be executed: the data volume is mounted so too.
func (m *machine) closeRuntime(context.Context) error {
	const flags = unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC
	for _, dir := range []string{"/run", "/dev/shm"} {
		if _, mounted, err := m.mounted(dir); err != nil {
			return err
		} else if !mounted {
			continue
		}
		if err := m.Kernel.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
			return fmt.Errorf("make %s a place where nothing is executed: %w", dir, err)
		}
	}
	if err := os.MkdirAll(m.at(m.Runtime), 0o700); err != nil {
		return fmt.Errorf("make the runtime directory: %w", err)
	}
	return nil
}

func (m *machine) setName(context.Context) error {
	name := m.meta.Hostname
	if name == "" {
		name = "trove-" + m.data.Boot.Instance[:8]
	}
	if err := m.Kernel.SetHostname(name); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	m.say("this is %s", name)
	return nil
}

// writeBoot writes what the agent reads, into a tmpfs of its own: it holds a token.
func (m *machine) writeBoot(context.Context) error {
	if err := m.mountOnce("tmpfs", m.BootDir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0700,size=1m"); err != nil {
		return err
	}
	data, err := json.Marshal(m.data.Boot)
	if err != nil {
		return fmt.Errorf("write the boot data: %w", err)
	}
	return atomicfile.Write(m.at(m.BootDir, filepath.Base(imagelayout.BootFile)), data, 0o600)
}

// mountOnce mounts what is not mounted yet, by an earlier run.
func (m *machine) mountOnce(source, target, kind string, flags uintptr, options string) error {
	from, mounted, err := m.mounted(target)
	if err != nil {
		return err
	}
	if mounted && from == source {
		return nil
	}
	if mounted {
		return fmt.Errorf("mount %s at %s: %s is mounted there", source, target, from)
	}
	if err := os.MkdirAll(m.at(target), 0o755); err != nil && !os.IsExist(err) { //nolint:gosec // the engine's account looks into it
		return fmt.Errorf("make the mount point %s: %w", target, err)
	}
	if err := m.Kernel.Mount(source, target, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, target, err)
	}
	return nil
}

// mounted returns what is mounted at a place.
func (c Config) mounted(target string) (source string, ok bool, err error) {
	data, err := os.ReadFile(c.at("/proc/self/mountinfo"))
	if err != nil {
		return "", false, fmt.Errorf("ask what is mounted: %w", err)
	}
	for line := range bytes.Lines(data) {
		// "36 35 98:0 / /data rw,noatime master:1 - xfs /dev/vdb rw"; the last one at a place is the one that is seen.
		left, right, _ := strings.Cut(string(line), " - ")
		place, dev := strings.Fields(left), strings.Fields(right)
		if len(place) > 4 && len(dev) > 1 && place[4] == target {
			source, ok = dev[1], true
		}
	}
	return source, ok, nil
}

// kernel is the machine that this process runs in.
type kernel struct{}

func (kernel) Mount(source, target, kind string, flags uintptr, options string) error {
	return unix.Mount(source, target, kind, flags, options)
}

func (kernel) Unmount(target string) error { return unix.Unmount(target, 0) }

func (kernel) SetHostname(name string) error { return unix.Sethostname([]byte(name)) }

func (kernel) Run(ctx context.Context, stdin, program string, args ...string) error {
	_, err := execx.Run(ctx, execx.Cmd{Path: program, Args: args, Stdin: strings.NewReader(stdin)})
	return err
}

func (kernel) Fill(mountpoint string, size int64) (bool, error) { return growfs.Fill(mountpoint, size) }

func (kernel) Uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

func (kernel) Namespace(path string) error {
	if netns.Is(path) {
		return nil
	}
	return netns.Make(path, nil)
}

func (kernel) Within(path string, do func() error) error { return netns.Do(path, do) }

func (kernel) Links() (map[string]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("look for network interfaces: %w", err)
	}
	names := map[string]string{}
	for _, i := range all {
		names[i.HardwareAddr.String()] = i.Name
	}
	return names, nil
}
