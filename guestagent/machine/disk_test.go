package machine_test

import (
	"strings"
	"testing"
)

func TestADiskWithAnythingOnItIsNeverFormatted(t *testing.T) {
	put := func(at int, text string) []byte {
		b := make([]byte, 8<<20)
		copy(b[at:], text)
		return b
	}
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"LUKS":               {put(0, "LUKS\xba\xbe\x00\x02"), "LUKS"},
		"LVM":                {put(512, "LABELONE"), "LVM"},
		"btrfs":              {put(0x10040, "_BHRfS_M"), "btrfs"},
		"swap":               {put(4086, "SWAPSPACE2"), "swap space"},
		"GPT":                {put(512, "EFI PART"), "GPT"},
		"MBR":                {put(510, "\x55\xaa"), "MBR"},
		"an image":           {put(0, "hsqs"), "squashfs"},
		"unknown":            {put(3<<20, "x"), "none of the known"},
		"unknown at its end": {put(8<<20-1, "x"), "none of the known"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			g.disk("vdb", volume[:20], c.content)
			err := g.run()
			if err == nil || g.formatted() || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "left as it is") {
				t.Fatalf("formatted %t, %v", g.formatted(), err)
			}
			if !strings.Contains(g.console.String(), "FAILED: open the data volume: the disk /dev/vdb has ") {
				t.Errorf("the console says %s", &g.console)
			}
			if got := g.read("dev/vdb"); got != string(c.content) {
				t.Error("the disk was written to")
			}
		})
	}
	t.Run("partitions", func(t *testing.T) {
		g := newGuest(t)
		g.write("sys/block/vdb/vdb1/partition", "1\n")
		if err := g.run(); err == nil || g.formatted() || !strings.Contains(err.Error(), "has partitions on it") {
			t.Errorf("formatted %t, %v", g.formatted(), err)
		}
	})
	t.Run("ext4 of another Trove", func(t *testing.T) {
		g := newGuest(t)
		g.disk("vdb", volume[:20], put(1024+56, "\x53\xef"))
		if err := g.run(); err != nil || g.formatted() || !strings.Contains(g.read("proc/self/mountinfo"), "/data rw,relatime - ext4 /dev/vdb") {
			t.Errorf("formatted %t, %v", g.formatted(), err)
		}
	})
	t.Run("a format that was cut off", func(t *testing.T) {
		g := newGuest(t)
		g.disk("vdb", volume[:20], put(0, "XFSB\x00\x00\x10\x00"+strings.Repeat("\x00", 118)+"\x01"))
		if err := g.run(); err != nil || !g.formatted() {
			t.Errorf("formatted %t, %v", g.formatted(), err)
		}
	})
}

// A SCSI disk whose volume does not answer is there without a size; when the volume answers again there is somebody's data on it.
func TestADiskThatHasNoSizeYetIsNotFormatted(t *testing.T) {
	g := newGuest(t)
	g.disk("vdb", volume[:20], nil)
	g.write("sys/class/block/vdb/device/rescan", "")
	for _, size := range []string{"0", "16384"} { // the second time it has one, and nothing of it can be read all the same
		g.write("sys/class/block/vdb/size", size)
		if err := g.run(); err == nil || g.formatted() || !strings.Contains(err.Error(), "size") {
			t.Errorf("of %s sectors: formatted %t, %v", size, g.formatted(), err)
		}
	}
	if g.read("sys/class/block/vdb/device/rescan") != "1\n" {
		t.Error("it was not asked for its size again")
	}
	g.disk("vdb", volume[:20], append([]byte("XFSB\x00\x00\x10\x00"), make([]byte, 8<<20)...))
	if err := g.run(); err != nil || g.formatted() {
		t.Errorf("when it has a size: formatted %t, %v", g.formatted(), err)
	}
}

// Somebody with root's rights in the guest can make the data volume look like a config drive, and leave its xfs as it is.
func TestAConfigDriveOnTheDataVolumeIsNone(t *testing.T) {
	g := newGuest(t)
	forged := append(iso("config-2"), make([]byte, 8<<20)...)
	copy(forged, "XFSB\x00\x00\x10\x00")
	g.disk("vdb", volume[:20], forged)
	if err := g.run(); err != nil || !strings.Contains(g.console.String(), "the config drive /dev/sr0 was read") {
		t.Errorf("%v\n%s", err, &g.console)
	}
	g = newGuest(t)
	g.disk("sr0", "", nil)
	g.disk("vdb", volume[:20], forged)
	if err := g.run(); err == nil || !strings.Contains(err.Error(), "config-2 did not come within") {
		t.Errorf("without another one: %v", err)
	}
	// Where there is no CD-ROM, Nova gives it a disk.
	g = newGuest(t)
	g.disk("sr0", "", nil)
	g.disk("vdc", "QM00001", iso("config-2"))
	if err := g.run(); err != nil || !strings.Contains(g.console.String(), "the config drive /dev/vdc was read") {
		t.Errorf("on a disk: %v\n%s", err, &g.console)
	}
}
