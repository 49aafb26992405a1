package machine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/guestagent/machine"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

const (
	instance = "0f1d4a52-6b0f-4b0e-9d0a-2c7a54c8d111"
	volume   = "7c1b1f0e-77a1-4b77-8b5b-6f9a8f3f0a01"
	previous = "9a2b1f0e-77a1-4b77-8b5b-6f9a8f3f0a02"
	token    = "a-token-nobody-may-read"
)

// guest is a machine that is made of files. It is the Kernel of the code under test.
type guest struct {
	t       *testing.T
	root    string
	data    machinedata.Data
	console bytes.Buffer
	ran     []string // programs with their arguments
	stdin   map[string]string
	name    string
	flags   map[string]uintptr
	filled  int64
	fail    string // a program that fails, or one with its arguments

	within string            // the namespace that things are done in, below root; "": the machine's own
	moved  map[string]string // interfaces of the namespace, by hardware address
}

func newGuest(t *testing.T) *guest {
	g := &guest{t: t, root: t.TempDir(), stdin: map[string]string{}, moved: map[string]string{}, flags: map[string]uintptr{}, data: machinedata.Data{
		DataVolume: volume, IsolateManagement: true,
		Boot: bus.BootData{Instance: instance, Engine: "mariadb", Token: token, EnrolURLs: []string{"https://10.77.0.1:4223"}, CABundle: "pem"},
		Interfaces: []machinedata.Interface{
			{MAC: "fa:16:3e:00:00:01", Role: "management", Addresses: []string{"10.77.0.23/24"}, MTU: 1500, Routes: []machinedata.Route{{To: "10.9.0.0/24", Via: "10.77.0.1"}}},
			{MAC: "fa:16:3e:00:00:02", Role: "user", Addresses: []string{"10.1.0.9/24", "fd00::9/64"}, Gateway: "10.1.0.1", Gateway6: "fd00::1", MTU: 1450, Nameservers: []string{"10.1.0.2"}},
		},
	}}
	g.write("proc/self/mountinfo", "22 1 254:2 / / ro,relatime shared:1 - squashfs /dev/vda2 ro\n23 22 0:20 / /run rw,nosuid - tmpfs none rw\n")
	g.disk("vda", "", nil)
	g.disk("sr0", "", iso("config-2"))
	g.disk("vdb", volume[:20], make([]byte, 8<<20))
	g.write("sys/class/net/eth0/address", "fa:16:3e:00:00:02\n")
	g.write("sys/class/net/eth1/address", "fa:16:3e:00:00:01\n")
	g.write("sys/class/net/lo/address", "00:00:00:00:00:00\n")
	for _, f := range []string{"ipv4/ip_forward", "ipv4/conf/all/arp_ignore", "ipv6/conf/eth1/accept_ra"} {
		g.write("proc/sys/net/"+f, "?")
	}
	return g
}

func iso(label string) []byte {
	image := make([]byte, 18*2048)
	copy(image[16*2048:], "\x01CD001\x01")
	copy(image[16*2048+40:], label+strings.Repeat(" ", 32-len(label)))
	return image
}

func (g *guest) path(name string) string { return filepath.Join(g.root, name) }

func (g *guest) write(name, text string) {
	g.t.Helper()
	if err := os.MkdirAll(filepath.Dir(g.path(name)), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(g.path(name), []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) read(name string) string {
	g.t.Helper()
	data, err := os.ReadFile(g.path(name))
	if err != nil {
		g.t.Fatal(err)
	}
	return string(data)
}

// disk makes a virtio disk.
func (g *guest) disk(name, serial string, content []byte) {
	g.write("sys/block/"+name+"/serial", serial)
	g.write("sys/class/block/"+name+"/size", fmt.Sprint(len(content)/512))
	g.write("dev/"+name, string(content))
}

// Mount writes the table of mounts, and puts Nova's files where a config drive is mounted.
func (g *guest) Mount(source, target, kind string, flags uintptr, _ string) error {
	g.flags[target] = flags
	if flags&unix.MS_REMOUNT != 0 {
		return nil
	}
	line := fmt.Sprintf("40 22 0:40 / %s rw,relatime - %s %s rw\n", target, kind, source)
	g.write("proc/self/mountinfo", g.read("proc/self/mountinfo")+line)
	if kind == "iso9660" {
		data, err := machinedata.Encode(g.data)
		if err != nil {
			return err
		}
		g.write(filepath.Join(target, machinedata.UserDataFile), string(data))
		g.write(filepath.Join(target, machinedata.MetaDataFile), `{"uuid":"`+instance+`","hostname":"trove-0f1d4a52.novalocal"}`)
	}
	if strings.HasSuffix(source, "vda3") {
		g.write(filepath.Join(target, "mysql/ibdata1"), "rows")
		g.write(filepath.Join(target, ".trove-sizes"), `{"mysql/ibdata1":4096}`)
	}
	return nil
}

func (g *guest) Unmount(target string) error {
	target = strings.TrimPrefix(target, g.root)
	var kept strings.Builder
	for line := range strings.Lines(g.read("proc/self/mountinfo")) {
		if !strings.Contains(line, " "+target+" ") {
			kept.WriteString(line)
		}
	}
	g.write("proc/self/mountinfo", kept.String())
	return nil
}

func (g *guest) SetHostname(name string) error {
	g.name = name
	return nil
}

func (g *guest) Run(_ context.Context, stdin, program string, args ...string) error {
	command := program + " " + strings.Join(args, " ")
	if g.fail == program || g.fail == command {
		return errors.New(program + " failed")
	}
	g.ran = append(g.ran, g.place()+strings.ReplaceAll(command, g.root, ""))
	g.stdin[g.place()+program] += strings.ReplaceAll(stdin, g.root, "")
	switch program {
	case "ip":
		g.moveLinks(stdin)
	case "mkfs.xfs":
		f, err := os.OpenFile(g.path(args[len(args)-1]), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte("XFSB\x00\x00\x10\x00"), 0)
		return err
	case "cp":
		return os.CopyFS(args[len(args)-1], os.DirFS(args[len(args)-2]))
	}
	return nil
}

func (g *guest) Fill(_ string, size int64) (bool, error) {
	grown := size > g.filled && g.filled > 0
	g.filled = size
	return grown, nil
}

func (*guest) Uptime() time.Duration { return 1500 * time.Millisecond }

func (g *guest) config() machine.Config {
	return machine.Config{
		Console: &g.console, Root: g.root, Kernel: g, Poll: time.Millisecond,
		DriveWait: 20 * time.Millisecond, DiskWait: 20 * time.Millisecond, LinkWait: 20 * time.Millisecond,
	}
}

func (g *guest) run() error {
	g.ran, g.stdin = nil, map[string]string{}
	return machine.Run(g.t.Context(), g.config())
}

// boot starts the machine anew: mounts and tmpfs are gone, disks are not.
func (g *guest) boot() error {
	for _, target := range []string{"/data", "/config", "/run/previous"} {
		if err := g.Unmount(target); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(g.path("run")); err != nil {
		return err
	}
	for mac, name := range g.moved {
		g.write("sys/class/net/"+name+"/address", mac+"\n")
	}
	g.moved = map[string]string{}
	return g.run()
}

func (g *guest) formatted() bool {
	return slices.ContainsFunc(g.ran, func(s string) bool { return strings.HasPrefix(s, "mkfs") })
}

func TestFirstStart(t *testing.T) {
	g := newGuest(t)
	if err := g.run(); err != nil {
		t.Fatalf("%v\n%s", err, &g.console)
	}
	want := []string{
		"ip -batch -", "management: nft -f -", "management: ip link set dev eth1 mtu 1500", "management: ip -batch -",
		"nft -f -", "ip link set dev eth0 mtu 1450", "ip -batch -", "ip -force -batch -", "mkfs.xfs -q -f -K -L trove-data /dev/vdb",
	}
	if diff := cmp.Diff(want, g.ran); diff != "" {
		t.Errorf("ran (-want +got):\n%s", diff)
	}
	if g.name != "trove-0f1d4a52" {
		t.Errorf("the host name is %q", g.name)
	}
	const closed = unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC
	if g.flags["/data"]&closed != closed || g.flags["/run"]&closed != closed {
		t.Errorf("flags are %#x", g.flags)
	}
	if boot := g.read("config/boot.json"); !strings.Contains(boot, token) {
		t.Errorf("the boot data is %s", boot)
	}
	if info, err := os.Stat(g.path("config/boot.json")); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode of the boot data: %v, %v", info.Mode(), err)
	}
	if r := g.read("run/resolv.conf"); r != "nameserver 10.1.0.2\n" {
		t.Errorf("resolv.conf is %q", r)
	}
	if a := g.read("proc/sys/net/ipv4/conf/all/arp_ignore"); a != "1" {
		t.Errorf("arp_ignore is %q", a)
	}
	said := g.console.String()
	for _, part := range []string{"/dev/sr0 was read", "eth1 is the management interface with 10.77.0.23/24, in a network namespace of its own", "/dev/vdb is new", "mounted at /data", "agent of instance " + instance} {
		if !strings.Contains(said, part) {
			t.Errorf("the console has no %q:\n%s", part, said)
		}
	}
	if strings.Contains(said, token) {
		t.Error("the console has the token")
	}
}

func TestLaterStartsFormatNothing(t *testing.T) {
	g := newGuest(t)
	if err := g.run(); err != nil || !g.formatted() {
		t.Fatalf("the first start: %v, formatted %t", err, g.formatted())
	}
	if err := g.run(); err != nil || g.formatted() {
		t.Errorf("run again: %v, formatted %t", err, g.formatted())
	}
	if err := g.boot(); err != nil || g.formatted() {
		t.Errorf("the second start: %v, formatted %t", err, g.formatted())
	}
	g.data.Boot.Token = "another-token"
	if err := g.boot(); err != nil || g.formatted() || !strings.Contains(g.read("config/boot.json"), "another-token") {
		t.Errorf("rebuilt: %v, formatted %t, boot data %s", err, g.formatted(), g.read("config/boot.json"))
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	for want, spoil := range map[string]func(*guest){
		"config-2 did not come within":                 func(g *guest) { g.disk("sr0", "", iso("other")) },
		"serial number 7c1b1f0e-77a1-4b77-8":           func(g *guest) { g.disk("vdb", "another", nil) },
		"the disks vdb and vdc have the same":          func(g *guest) { g.disk("vdc", volume[:20], nil) },
		"none with the hardware address fa:16:3e:00:0": func(g *guest) { g.write("sys/class/net/eth1/address", "00:00:00:00:00:01") },
		"mkfs.xfs failed":                              func(g *guest) { g.fail = "mkfs.xfs" },
		"nft failed":                                   func(g *guest) { g.fail = "nft" },
	} {
		g := newGuest(t)
		spoil(g)
		if err := g.run(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run = %v, want %q in it", err, want)
		}
		if said := g.console.String(); !strings.Contains(said, "FAILED: ") || strings.Contains(said, token) {
			t.Errorf("%s: the console says %s", want, said)
		}
	}
}

func TestADiskOnSCSI(t *testing.T) {
	g := newGuest(t)
	for _, f := range []string{"sys/block/vdb", "dev/vdb"} {
		if err := os.RemoveAll(g.path(f)); err != nil {
			t.Fatal(err)
		}
	}
	g.write("dev/sda", string(make([]byte, 8<<20)))
	g.write("sys/block/sda/device/vpd_pg80", "\x00\x80\x00\x24"+volume)
	g.write("sys/class/block/sda/size", "16384")
	g.write("sys/class/block/sda/device/rescan", "")
	if err := g.run(); err != nil || !strings.Contains(g.read("proc/self/mountinfo"), "/data rw,relatime - xfs /dev/sda") {
		t.Errorf("%v\n%s", err, &g.console)
	}
	if g.read("sys/class/block/sda/device/rescan") != "1\n" || g.filled != 8<<20 {
		t.Errorf("the disk was not asked for its size; the file system was grown to %d", g.filled)
	}
}

func TestGoldenDataOfTheImage(t *testing.T) {
	g := newGuest(t)
	g.disk("vda3", "", nil)
	if err := g.run(); err != nil {
		t.Fatal(err)
	}
	if got := g.read("data/mysql/ibdata1"); len(got) != 4096 || strings.TrimRight(got, "\x00") != "rows" {
		t.Errorf("the data is %d bytes, %.10q", len(got), got)
	}
	if _, err := os.Lstat(g.path("data/.trove-sizes")); err == nil {
		t.Error("the list of sizes is among the data")
	}
	g.write("data/mysql/ibdata1", "more rows")
	if err := g.boot(); err != nil || g.read("data/mysql/ibdata1") != "more rows" {
		t.Errorf("the second start: %v, %q", err, g.read("data/mysql/ibdata1"))
	}
}

// A machine that was cut off while it copied starts again, with what it needs and no more.
func TestGoldenDataThatWasCutOff(t *testing.T) {
	g := newGuest(t)
	g.disk("vda3", "", nil)
	g.fail = "sync"
	if err := g.run(); err == nil {
		t.Fatal("it did not fail")
	}
	g.fail = ""
	g.write("data/.golden-part/mysql/half", "")
	if err := g.boot(); err != nil || g.formatted() || !strings.HasPrefix(g.read("data/mysql/ibdata1"), "rows") {
		t.Fatalf("formatted %t, %v", g.formatted(), err)
	}
	if left, err := filepath.Glob(g.path("data/.golden*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if _, err := os.Stat(g.path("data/mysql/half")); err == nil {
		t.Error("the half copy was used")
	}
}

func (g *guest) previousImage() {
	g.data.PreviousVolume = previous
	g.disk("vdc", previous[:20], nil)
	for i, head := range []string{"kernel", "hsqs", "hsqs"} {
		part := fmt.Sprint("vdc", i+1)
		g.write("sys/block/vdc/"+part+"/partition", fmt.Sprintln(i+1))
		g.write("dev/"+part, head+strings.Repeat("\x00", 4096))
	}
}

func TestPreviousImage(t *testing.T) {
	g := newGuest(t)
	g.previousImage()
	if err := g.run(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(g.read("proc/self/mountinfo"), "/run/previous rw,relatime - squashfs /dev/vdc2") || g.flags["/run/previous"]&unix.MS_RDONLY == 0 {
		t.Errorf("mounts:\n%s", g.read("proc/self/mountinfo"))
	}
	// It is taken away after the upgrade, and the user data of before stays: no start waits for it any more.
	if err := errors.Join(os.RemoveAll(g.path("sys/block/vdc")), os.Remove(g.path("dev/vdc"))); err != nil {
		t.Fatal(err)
	}
	g.console.Reset()
	if err := g.boot(); err != nil {
		t.Fatal(err)
	}
	said := g.console.String()
	if !strings.Contains(said, "was taken away") || strings.Contains(said, "waiting for the volume") || !strings.Contains(said, "the agent of instance") {
		t.Errorf("the console says\n%s", said)
	}
	// That of another change is.
	g.data.PreviousVolume = "9a2b1f0e-77a1-4b77-8b5b-6f9a8f3f0a03"
	g.console.Reset()
	if err := g.boot(); err != nil || !strings.Contains(g.console.String(), "waiting for the volume of the previous image") {
		t.Errorf("with another volume: %v\n%s", err, &g.console)
	}
}

func TestAMachineGoesOnWithoutThePreviousImage(t *testing.T) {
	for want, spoil := range map[string]func(*guest){
		"previous image, a disk with the serial number 9a2b1f0e-77a1-4b77-8 did not come within": func(g *guest) { g.data.PreviousVolume = previous },
		"/dev/vdc has no root of an image of Trove": func(g *guest) {
			g.previousImage()
			for _, part := range []string{"vdc2", "vdc3"} {
				g.write("dev/"+part, strings.Repeat("\x00", 4096))
			}
		},
	} {
		g := newGuest(t)
		spoil(g)
		if err := g.run(); err != nil {
			t.Fatal(err)
		}
		if said := g.console.String(); !strings.Contains(said, "going on without the root of the previous image: ") || !strings.Contains(said, want) {
			t.Errorf("the console has no %q:\n%s", want, said)
		}
	}
}

func TestGrow(t *testing.T) {
	g := newGuest(t)
	if _, _, err := machine.Grow(g.config()); err == nil || !strings.Contains(err.Error(), "no disk is mounted at /data") {
		t.Errorf("Grow without a volume = %v", err)
	}
	if err := g.run(); err != nil {
		t.Fatal(err)
	}
	if size, grown, err := machine.Grow(g.config()); err != nil || grown || size != 8<<20 {
		t.Errorf("Grow of a full disk = %d, %t, %v", size, grown, err)
	}
	g.write("sys/class/block/vdb/size", "32768")
	if size, grown, err := machine.Grow(g.config()); err != nil || !grown || size != 16<<20 || g.filled != 16<<20 {
		t.Errorf("Grow = %d, %t, %v, to %d", size, grown, err, g.filled)
	}
}
