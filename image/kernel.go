package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// modules are the kernel's of a root file system.
type modules struct {
	version string
	dir     string              // of this version
	needs   map[string][]string // by file below dir, the other files that it needs, as modules.dep has them
	files   map[string]string   // by name, with "_" for "-"
	builtin map[string]bool
}

func readModules(rootfs string) (*modules, error) {
	all, err := filepath.Glob(filepath.Join(rootfs, "usr/lib/modules/*/modules.dep"))
	if err != nil || len(all) != 1 {
		return nil, errors.Join(err, fmt.Errorf("there are %d kernels in the root file system, not 1", len(all)))
	}
	m := &modules{dir: filepath.Dir(all[0]), needs: map[string][]string{}, files: map[string]string{}, builtin: map[string]bool{}}
	m.version = filepath.Base(m.dir)
	data, err := os.ReadFile(all[0])
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		file, needs, found := strings.Cut(line, ":")
		if found {
			m.needs[file], m.files[moduleName(file)] = strings.Fields(needs), file
		}
	}
	if data, err = os.ReadFile(filepath.Join(m.dir, "modules.builtin")); err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		m.builtin[moduleName(strings.TrimSpace(line))] = true
	}
	return m, nil
}

func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// closure returns the files of modules and of all that they need, each after what it needs. What is built in needs no file.
func (m *modules) closure(names []string, optional bool) ([]string, error) {
	var all []string
	for _, name := range names {
		file, found := m.files[name]
		if !found {
			if !m.builtin[name] && !optional {
				return nil, fmt.Errorf("the kernel %s has no module %s", m.version, name)
			}
			continue
		}
		for _, f := range slices.Backward(append([]string{file}, m.needs[file]...)) {
			if !slices.Contains(all, f) {
				all = append(all, f)
			}
		}
	}
	return all, nil
}

// prune removes every module that is not in the list.
func (m *modules) prune(keep []string) error {
	tree, err := os.OpenRoot(m.dir)
	if err != nil {
		return err
	}
	defer func() { _ = tree.Close() }()
	err = fs.WalkDir(tree.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(e.Name(), ".ko") || slices.Contains(keep, name) {
			return err
		}
		return tree.Remove(name)
	})
	for _, name := range []string{"build", "source"} { // links to nowhere
		err = errors.Join(err, tree.RemoveAll(name))
	}
	return err
}

// kernel leaves of the kernel's modules what a machine needs, and returns the kernel and its initial root.
func (d *disk) kernel(ctx context.Context, rootfs string) (kernel, initrd []byte, err error) {
	fail := func(err error) ([]byte, []byte, error) {
		return nil, nil, fmt.Errorf("take the kernel out of the packages: %w", err)
	}
	m, err := readModules(rootfs)
	if err != nil {
		return fail(err)
	}
	if kernel, err = os.ReadFile(filepath.Join(rootfs, "boot", "vmlinuz-"+m.version)); err != nil {
		return fail(err)
	}
	first, err := m.closure(d.machine.InitrdModules, false)
	if err != nil {
		return fail(err)
	}
	if initrd, err = d.initrd(ctx, rootfs, m, first); err != nil {
		return fail(err)
	}
	keep := slices.Clone(first)
	for optional, names := range map[bool][]string{false: d.machine.Modules, true: d.machine.OptionalModules} {
		more, err := m.closure(names, optional)
		if err != nil {
			return fail(err)
		}
		keep = append(keep, more...)
	}
	if err := m.prune(keep); err != nil {
		return fail(err)
	}
	if _, err := d.run(ctx, "chroot", rootfs, "depmod", m.version); err != nil {
		return fail(err)
	}
	return kernel, initrd, nil
}

// initrd makes the initial root: a shell, the modules that the root needs, and the program that finds it.
func (d *disk) initrd(ctx context.Context, rootfs string, m *modules, files []string) ([]byte, error) {
	busybox := filepath.Join(rootfs, "usr/bin/busybox")
	shell, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	first, err := machineFiles.ReadFile("machine/initrd/init")
	if err != nil {
		return nil, err
	}
	var a cpio
	for _, dir := range []string{"bin", "dev", "m", "proc", "root"} {
		a.dir(dir)
	}
	a.file("bin/busybox", shell, 0o755)
	a.file("init", first, 0o755)
	var order bytes.Buffer
	for i, f := range files {
		data, err := os.ReadFile(filepath.Join(m.dir, f))
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(f, ".xz") {
			if data, err = d.run(ctx, busybox, "xzcat", filepath.Join(m.dir, f)); err != nil {
				return nil, err
			}
		}
		name := fmt.Sprintf("%02d-%s.ko", i, moduleName(f))
		a.file("m/"+name, data, 0o644)
		order.WriteString(name + "\n")
	}
	a.file("m/order", order.Bytes(), 0o644)
	return a.end(), nil
}

// cpio is an archive in the form that the kernel reads as an initial root ("newc"). Nothing in it depends on when or where it was made.
type cpio struct {
	buf   bytes.Buffer
	inode int
}

func (c *cpio) entry(name string, data []byte, mode, links int) {
	c.inode++
	fmt.Fprintf(&c.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	c.pad(4)
	c.buf.Write(data)
	c.pad(4)
}

func (c *cpio) pad(n int) {
	for c.buf.Len()%n != 0 {
		c.buf.WriteByte(0)
	}
}

func (c *cpio) dir(name string) { c.entry(name, nil, 0o040755, 2) }

func (c *cpio) file(name string, data []byte, perm int) { c.entry(name, data, 0o100000|perm, 1) }

func (c *cpio) end() []byte {
	c.entry("TRAILER!!!", nil, 0, 1)
	c.pad(512)
	return c.buf.Bytes()
}
