package image

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// machineFiles are what a virtual machine has that a sandbox does not: machine.json, files of its root below root, and the first program of its initial
// root in initrd.
//
//go:embed machine locks/machine/*.json
var machineFiles embed.FS

// machine is the file machine.json.
type machine struct {
	Machine
	lock lock // what the machine's packages of the suite were last seen as
}

// Machine says what goes into every image for virtual machines, beside what its recipe says.
type Machine struct {
	Packages        []string `json:"packages"`
	CommandLine     string   `json:"command_line"`     // of the kernel
	InitrdModules   []string `json:"initrd_modules"`   // of the kernel, in the order of loading
	Modules         []string `json:"modules"`          // of the kernel; the others are left out
	OptionalModules []string `json:"optional_modules"` // some kernels do not have them, or have them built in
	Remove          []string `json:"remove"`           // as in a recipe
}

// machineMiB is how much more space building a disk needs.
const machineMiB = 1500

// sshPackages are for images with keys of people.
var sshPackages = []string{"openssh-server"}

// addMachine makes the recipe one for a machine. The packages of a machine have a lock of their own, one for each suite, because those of the recipe are
// part of the ids of the local cloud's images.
func (d *disk) addMachine() error {
	data, err := machineFiles.ReadFile("machine/machine.json")
	if err != nil {
		return fmt.Errorf("read what a machine has: %w", err)
	}
	if err := strict(data, &d.machine.Machine); err != nil {
		return fmt.Errorf("read what a machine has: %w", err)
	}
	l := lock{Suite: d.recipe.Suite}
	data, err = machineFiles.ReadFile("locks/machine/" + d.recipe.Suite + ".json")
	if err == nil {
		l, err = parseLock(data)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the lock of the machine's packages: %w", err)
	}
	d.machine.lock = l
	d.recipe.Packages = slices.Concat(d.recipe.Packages, d.machine.Packages)
	if d.spec.SSHKeys != nil {
		d.recipe.Packages = append(d.recipe.Packages, sshPackages...)
	}
	d.recipe.Remove = slices.DeleteFunc(slices.Clone(d.recipe.Remove), func(p string) bool { return p == "etc/systemd" })
	d.recipe.DiskMiB += machineMiB
	own := d.locked
	d.locked = own.with(l)
	d.relock = func(now []pkg) (written, whole lock) {
		written = l.learn(own, now)
		return written, own.with(written)
	}
	d.needs = append(slices.Clone(tools), diskTools...)
	return nil
}

// with adds the packages of another lock that this one does not have. They need not be in every image.
func (l lock) with(more lock) lock {
	sum := lock{Suite: l.Suite, Packages: slices.Clone(l.Packages), extra: map[string]bool{}}
	for _, p := range more.Packages {
		if !l.has(p) {
			sum.Packages = append(sum.Packages, p)
			sum.extra[p.key()] = true
		}
	}
	sum.sort()
	return sum
}

// learn is the machine's lock after a build: what is there now beside the recipe's own lock, and what was known of others.
func (l lock) learn(own lock, now []pkg) lock {
	next := lock{Suite: l.Suite}
	for _, p := range now {
		if !own.has(p) {
			next.Packages = append(next.Packages, p)
		}
	}
	for _, p := range l.Packages {
		if !next.has(p) {
			next.Packages = append(next.Packages, p)
		}
	}
	next.sort()
	return next
}

func (l lock) has(p pkg) bool {
	return slices.ContainsFunc(l.Packages, func(o pkg) bool { return o.key() == p.key() })
}

func (l lock) sort() {
	slices.SortFunc(l.Packages, func(a, b pkg) int { return cmp.Compare(a.key(), b.key()) })
}

func (p pkg) key() string { return p.Name + ":" + p.Architecture }

// texts are the embedded files, which are part of an image's id.
func (machine) texts() (map[string]string, error) {
	all := map[string]string{}
	err := fs.WalkDir(machineFiles, "machine", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := machineFiles.ReadFile(name)
		all[name] = string(data)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what a machine has: %w", err)
	}
	return all, nil
}

// finishMachine makes a machine's root of a recipe's root, in a copy of it.
func (d *disk) finishMachine(dir string) error {
	tree, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("finish the machine's root: %w", err)
	}
	defer func() { _ = tree.Close() }()
	for _, step := range []func(*os.Root) error{d.removeUnused, d.writeTree, d.writeLinks, d.writeAgent, d.writeSSH} {
		if err := step(tree); err != nil {
			return fmt.Errorf("finish the machine's root: %w", err)
		}
	}
	return nil
}

func (d *disk) removeUnused(tree *os.Root) error {
	return removeFiles(tree, recipe{Remove: d.machine.Remove})
}

// writeTree writes the files below machine/root. Those that begin with "#!" are programs.
func (d *disk) writeTree(tree *os.Root) error {
	const from = "machine/root"
	return fs.WalkDir(machineFiles, from, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := machineFiles.ReadFile(name)
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(string(data), "#!") {
			mode = 0o755
		}
		return writeNew(tree, strings.TrimPrefix(name, from+"/"), data, mode)
	})
}

// writeNew writes a file in place of another, without touching what other links of it lead to.
func writeNew(tree *os.Root, name string, data []byte, mode os.FileMode) error {
	if err := makeDirs(tree, path.Dir(name)); err != nil {
		return err
	}
	if err := tree.RemoveAll(name); err != nil {
		return err
	}
	if err := tree.WriteFile(name, data, mode); err != nil {
		return err
	}
	return tree.Chmod(name, mode) // whatever our umask is
}

// writeLinks makes what is found out at the start a link into the directory that is written then.
func (d *disk) writeLinks(tree *os.Root) error {
	for name, to := range map[string]string{
		"etc/resolv.conf":                   "../run/resolv.conf",
		"etc/systemd/system/default.target": "trove.target",
	} {
		if err := tree.RemoveAll(name); err != nil {
			return err
		}
		if err := tree.Symlink(to, name); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) writeAgent(tree *os.Root) error {
	data, err := os.ReadFile(d.build.spec.AgentBinary)
	if err != nil {
		return err
	}
	if err := writeNew(tree, imagelayout.AgentBin[1:], data, 0o755); err != nil {
		return err
	}
	if sum, err := hashFile(path.Join(tree.Name(), imagelayout.AgentBin)); err != nil || sum != d.agent {
		return errors.Join(err, errors.New("the agent's binary changed while the image was made; build again"))
	}
	if d.build.spec.AgentKeys == nil {
		return nil
	}
	return writeNew(tree, imagelayout.AgentKeys[1:], d.build.spec.AgentKeys, 0o644)
}

// sshUnit starts a server with a key of this start only: the root is read-only, and a key in the image would be everybody's.
const sshUnit = `[Unit]
Description=Logins of those whose keys are in the image
DefaultDependencies=no
After=trove-machine.service
Before=shutdown.target
Conflicts=shutdown.target

[Service]
RuntimeDirectory=sshd
ExecStartPre=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /run/sshd/key
ExecStart=/usr/sbin/sshd -D -e -f /etc/ssh/sshd_config
Restart=on-failure
`

const sshConfig = `HostKey /run/sshd/key
AuthorizedKeysFile /etc/ssh/trove_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
AllowUsers root
`

func (d *disk) writeSSH(tree *os.Root) error {
	if d.spec.SSHKeys == nil {
		return nil
	}
	for name, text := range map[string]string{
		"etc/ssh/sshd_config": sshConfig, "etc/ssh/trove_keys": string(d.spec.SSHKeys), "etc/systemd/system/trove-ssh.service": sshUnit,
	} {
		if err := writeNew(tree, name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := makeDirs(tree, "etc/systemd/system/trove.target.wants"); err != nil {
		return err
	}
	return tree.Symlink("../trove-ssh.service", "etc/systemd/system/trove.target.wants/trove-ssh.service")
}
