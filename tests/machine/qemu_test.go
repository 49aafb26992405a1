package machine_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/image"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

// patience is for one thing that an emulated machine does, on processors that others use too.
const patience = 4 * time.Minute

// The hardware addresses and networks of the machine. QEMU's user network has its own host at .2.
const (
	managementMAC, userMAC = "fa:16:3e:00:00:01", "fa:16:3e:00:00:02"
	controllers            = "10.0.2.2"
	managementAddress      = "10.0.2.15"
	userAddress, userHost  = "10.0.3.15", "10.0.3.2"
)

// vm is an emulated machine with its console.
type vm struct {
	t       *testing.T
	dir     string
	cmd     *exec.Cmd
	ended   chan struct{}
	started time.Time

	mu      sync.Mutex
	console strings.Builder
}

// disk returns the image's file, or skips the test.
func disk(t *testing.T) (string, image.DiskManifest) {
	t.Helper()
	file := os.Getenv("TROVE_TEST_DISK")
	if file == "" {
		t.Skip("needs a whole-disk image in TROVE_TEST_DISK; scripts/machinetest.sh makes one")
	}
	m, err := image.ReadDisk(file)
	if err != nil {
		t.Fatal(err)
	}
	return file, m
}

// configDrive makes the drive that Nova makes.
func configDrive(t *testing.T, d machinedata.Data) string {
	t.Helper()
	dir := t.TempDir()
	user, err := machinedata.Encode(d)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		machinedata.UserDataFile: string(user),
		machinedata.MetaDataFile: `{"uuid":"` + d.Boot.Instance + `","hostname":"trove-test.novalocal"}`,
	} {
		path := filepath.Join(dir, "drive", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "config.iso")
	out, err := exec.CommandContext(t.Context(), "genisoimage", "-quiet", "-V", machinedata.DriveLabel, "-l", "-R", "-J", "-o", file, filepath.Join(dir, "drive")).CombinedOutput()
	if err != nil {
		t.Fatalf("genisoimage: %v: %s", err, out)
	}
	return file
}

// start starts a machine; forward has rules of QEMU's for the user and the management network. A third disk has the image
// again, as the volume of the image before does.
func start(t *testing.T, root, drive, volume string, forward [2]string) *vm {
	t.Helper()
	v := &vm{t: t, dir: t.TempDir(), ended: make(chan struct{}), started: time.Now()}
	link := func(id, mac, net string) []string {
		return []string{"-netdev", "user,id=" + id + "," + net, "-device", "virtio-net-pci,netdev=" + id + ",mac=" + mac}
	}
	args := []string{
		"-machine", "pc", "-accel", "tcg,tb-size=96", "-cpu", "Nehalem", "-m", "768", "-smp", "1", "-display", "none", "-nodefaults", "-vga", "std", "-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-qmp", "unix:" + filepath.Join(v.dir, "qmp") + ",server=on,wait=off",
		"-drive", "file=" + root + ",if=none,id=root,snapshot=on", "-device", "virtio-blk-pci,drive=root,bootindex=1",
		"-drive", "file=" + volume + ",if=none,id=data,format=raw", "-device", "virtio-blk-pci,drive=data,serial=" + machinedata.Serial(volumeID),
		"-drive", "file=" + drive + ",if=none,id=drive,format=raw,media=cdrom", "-device", "ide-cd,drive=drive",
		"-drive", "file=" + root + ",if=none,id=previous,snapshot=on", "-device", "virtio-blk-pci,drive=previous,serial=" + machinedata.Serial(previousID),
		"-device", "virtio-rng-pci",
	}
	args = append(args, link("user", userMAC, "net=10.0.3.0/24"+forward[0])...) // the order is not that of the machine data
	args = append(args, link("management", managementMAC, "net=10.0.2.0/24"+forward[1])...)
	v.cmd = exec.Command("qemu-system-x86_64", args...)
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	v.cmd.Stderr = v.cmd.Stdout
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(v.ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			v.mu.Lock()
			fmt.Fprintf(&v.console, "%6.1f %s\n", time.Since(v.started).Seconds(), strings.TrimRight(lines.Text(), "\r"))
			v.mu.Unlock()
		}
		_ = v.cmd.Wait() // how it ended is in ProcessState
	}()
	t.Cleanup(func() {
		_ = v.cmd.Process.Kill() // it has ended, as a rule
		<-v.ended
		if t.Failed() {
			t.Logf("the console:\n%s", v.said())
		}
	})
	return v
}

func (v *vm) said() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.console.String()
}

// until waits for something, or for the machine's end.
func (v *vm) until(what string, ok func() bool) {
	v.t.Helper()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-v.ended:
			if !ok() {
				v.t.Fatalf("the machine ended before: %s", what)
			}
		case <-deadline:
			v.t.Fatalf("waited %s for: %s", patience, what)
		}
	}
	v.t.Logf("%5.1f s after the machine's start: %s", time.Since(v.started).Seconds(), what)
}

func (v *vm) says(text string) {
	v.t.Helper()
	v.until(text, func() bool { return strings.Contains(v.said(), text) })
}

// monitor gives QEMU a command.
func (v *vm) monitor(command string, arguments map[string]any) {
	v.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(v.dir, "qmp"))
	if err != nil {
		v.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		v.t.Fatal(err)
	}
	answers := json.NewDecoder(conn)
	for _, c := range []map[string]any{nil, {"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}} {
		if c != nil {
			if arguments == nil {
				delete(c, "arguments")
			}
			if err := json.NewEncoder(conn).Encode(c); err != nil {
				v.t.Fatal(err)
			}
		}
		var answer map[string]json.RawMessage
		for answer["event"] != nil || answer == nil {
			answer = nil
			if err := answers.Decode(&answer); err != nil {
				v.t.Fatal(err)
			}
		}
		if answer["error"] != nil {
			v.t.Fatalf("%s: %s", command, answer["error"])
		}
	}
}

// powerButton presses it and waits for the machine's end.
func (v *vm) powerButton() {
	v.t.Helper()
	pressed := time.Now()
	v.monitor("system_powerdown", nil)
	select {
	case <-v.ended:
	case <-time.After(patience):
		v.t.Fatal("the machine did not stop")
	}
	v.t.Logf("the machine stopped %.1f s after the power button was pressed", time.Since(pressed).Seconds())
}
