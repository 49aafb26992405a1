package attacks_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// What the attacks prove holds for whoever took over the agent, because they have exactly what it has.
func TestTheAttackerHasWhatTheAgentHas(t *testing.T) {
	a := begin(t)
	r := a.inside("same-as-agent", nil)
	for field, want := range map[string]string{"Seccomp": "2", "NoNewPrivs": "1", "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "CapEff": "00000000000000eb"} {
		if got := r.Facts[field]; got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
	if got := r.Facts["Uid"]; got != "0 0 0 0" {
		t.Errorf("the attacker is user %s", got)
	}
}

func TestReadTheHostInProc(t *testing.T) {
	a := begin(t)
	a.inside("proc", a.to())
}

func TestReachSysAndControlGroups(t *testing.T) {
	a := begin(t)
	a.inside("sys", a.to())
}

func TestChangeWhatIsMounted(t *testing.T) {
	a := begin(t)
	a.inside("mounts", a.to())
}

func TestMakeAndOpenDevices(t *testing.T) {
	a := begin(t)
	a.inside("devices", a.to())
}

func TestMakeAndEnterNamespaces(t *testing.T) {
	a := begin(t)
	a.inside("namespaces", a.to())
}

func TestCallDangerousKernelInterfaces(t *testing.T) {
	a := begin(t)
	a.inside("kernel", a.to())
}

func TestGainPrivileges(t *testing.T) {
	a := begin(t)
	a.inside("privileges", a.to())
}

func TestFindDescriptorsOfTheHost(t *testing.T) {
	a := begin(t)
	a.inside("descriptors", a.to())
}

func TestSignalOtherProcesses(t *testing.T) {
	a := begin(t)
	a.inside("signals", a.to())
}

func TestChangeTheHostsNameAndClock(t *testing.T) {
	a := begin(t)
	a.inside("host", a.to())
}

func TestOpenSocketsOfOtherFamilies(t *testing.T) {
	a := begin(t)
	name := "@attack-" + a.guest.ID
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if c, err := net.Dial("unix", name); err != nil { // the host itself can
		t.Fatal(err)
	} else if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	in := a.to()
	in["abstract"] = name
	a.inside("sockets", in)
}

// What the host and the neighbour have in shared memory and in files.
func TestOpenFilesAndMemoryOfOthers(t *testing.T) {
	a := begin(t)
	const key = 0x74726f76
	id, err := unix.SysvShmGet(key, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
	file := "attack-" + a.guest.ID
	if err := os.WriteFile("/dev/shm/"+file, []byte("the host's"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove("/dev/shm/" + file) })
	in := a.to()
	in["segment"], in["file"] = strconv.Itoa(key), file
	in["image"] = filepath.Join(a.State, "instances", a.neighbour.ID, "volume.img")
	in["keys"] = filepath.Join(a.State, "keys", "master.key")
	in["boot"] = filepath.Join(a.runDir(), "i", a.neighbour.ID, "config", "boot.json")
	for _, path := range []string{in["image"], in["keys"], in["boot"]} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the attack aims at nothing: %v", err)
		}
	}
	a.inside("shared", in)
}
