package image

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// DiskSpec says what whole-disk image to build.
type DiskSpec struct {
	BuildSpec // without ImagesDir

	Output string // the file to write; what is said beside it goes to a file with ".json" behind the same name
	// SSHKeys are lines as of authorized_keys, of those who may log in as root; nil: the image has no way in, and no server for it.
	SSHKeys []byte
	// WithoutData leaves the initialised database out: a guest then makes its own at its first start, which takes longer.
	WithoutData bool
}

// DiskManifest is what stands beside a whole-disk image: what it is, and what a cloud must know of it.
type DiskManifest struct {
	imagelayout.Manifest

	Format     string            `json:"format"`
	MinDisk    int               `json:"min_disk"` // GiB
	MinRAM     int               `json:"min_ram"`  // MiB
	Size       int64             `json:"size"`     // of the file
	SHA256     string            `json:"sha256"`   // of the file
	Properties map[string]string `json:"properties"`

	// DiskSHA256 is of the disk's parts that are the same in every build: all of it but the initialised database, which has ids and times of its own.
	DiskSHA256 string `json:"disk_sha256"`
	DiskSize   int64  `json:"disk_size"` // of the disk that a guest sees
}

// diskFormat changes when this package makes another disk of the same root.
const diskFormat = 2

const minRAM = 512 // MiB, for the kernel, the agent and the smallest settings of an engine

// BuildDisk makes a whole-disk image for virtual machines and writes it to a file, in the form qcow2. What is there already is found as in Build, and not
// made again. It needs root, as file systems are mounted.
func BuildDisk(ctx context.Context, spec DiskSpec) (DiskManifest, error) {
	spec.ImagesDir = ""
	b, err := newBuild(spec.BuildSpec)
	if err != nil {
		return DiskManifest{}, err
	}
	d := &disk{build: b, spec: spec}
	if d.output, err = filepath.Abs(spec.Output); err != nil {
		return DiskManifest{}, fmt.Errorf("find the image's file: %w", err)
	}
	if err := d.addMachine(); err != nil {
		return DiskManifest{}, err
	}
	if err := b.check(); err != nil {
		return DiskManifest{}, err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return DiskManifest{}, err
	}
	defer unlock()
	m, err := d.make(ctx)
	if err != nil {
		return DiskManifest{}, b.explain(err)
	}
	b.say(100, "The image %s is in %s.", m.ID, d.output)
	return m, nil
}

// disk is one run of BuildDisk. Its build has the recipe with what a machine has in addition.
type disk struct {
	*build
	spec    DiskSpec
	machine machine
	output  string
}

// diskTools are the programs that a disk needs in addition; see tools.
var diskTools = []tool{
	{"mksquashfs", "squashfs-tools"},
	{"grub-mkimage", "grub-common"},
	{"qemu-img", "qemu-utils"},
}

func (d *disk) make(ctx context.Context) (DiskManifest, error) {
	if err := d.clear(); err != nil {
		return DiskManifest{}, err
	}
	r, err := d.ensureRoot(ctx)
	if err != nil {
		return DiskManifest{}, err
	}
	id, err := d.id(r)
	if err != nil {
		return DiskManifest{}, err
	}
	if m, err := ReadDisk(d.output); err == nil && m.ID == id && !d.build.spec.Refresh {
		if sum, err := hashFile(d.output); err == nil && sum == m.SHA256 {
			return m, nil
		}
	}
	work, err := os.MkdirTemp(d.build.spec.CacheDir, halfMade)
	if err != nil {
		return DiskManifest{}, fmt.Errorf("make the image: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	p, err := d.parts(ctx, work, r, id)
	if err != nil {
		return DiskManifest{}, err
	}
	return d.write(ctx, work, p, r, id)
}

// id is of what the disk is made of. Its initialised database is not part of it: it is as good as any other.
func (d *disk) id(r root) (string, error) {
	texts, err := d.machine.texts()
	if err != nil {
		return "", err
	}
	hash, err := hashOf(diskFormat, r.Hash, d.agent, d.info, d.keysHash(), d.machine.Machine, texts, d.spec.SSHKeys, d.spec.WithoutData)
	if err != nil {
		return "", err
	}
	return imageID(hash)
}

// write joins the parts to a disk and writes the image and what stands beside it, this last.
func (d *disk) write(ctx context.Context, work string, p parts, r root, id string) (DiskManifest, error) {
	d.say(93, "Writing the disk.")
	raw, image := filepath.Join(work, "disk"), filepath.Join(work, "image")
	sum, size, err := p.join(raw)
	if err != nil {
		return DiskManifest{}, fmt.Errorf("write the disk: %w", err)
	}
	d.say(95, "Compressing the image.")
	// What is on the disk is compressed already, but for the kernel's surroundings.
	if _, err := d.run(ctx, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", raw, image); err != nil {
		return DiskManifest{}, fmt.Errorf("compress the image: %w", err)
	}
	m := DiskManifest{
		Manifest: imagelayout.Manifest{
			ID: id, Datastore: d.recipe.Datastore, Version: d.recipe.Version, Manager: d.recipe.Manager, EngineVersion: d.engineVersion(r),
			Capabilities: d.info.Capabilities, EngineUID: d.recipe.Account.UID, EngineGID: d.recipe.Account.GID, RootSHA256: r.Hash, AgentSHA256: d.agent,
			AgentKeys: d.keysHash(), Goldens: []imagelayout.Golden{},
		},
		Format: "qcow2", MinDisk: int((size + 1<<30 - 1) >> 30), MinRAM: minRAM, DiskSHA256: sum, DiskSize: size,
	}
	m.Properties = properties(m.Manifest)
	if m.SHA256, err = hashFile(image); err != nil {
		return DiskManifest{}, err
	}
	info, err := os.Stat(image)
	if err != nil {
		return DiskManifest{}, fmt.Errorf("write the image: %w", err)
	}
	m.Size = info.Size()
	if err := os.Chmod(image, 0o644); err != nil { //nolint:gosec // there is no secret in an image
		return DiskManifest{}, fmt.Errorf("write the image: %w", err)
	}
	if err := d.place(ctx, image); err != nil {
		return DiskManifest{}, err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return DiskManifest{}, fmt.Errorf("write what the image is: %w", err)
	}
	return m, atomicfile.Write(besideDisk(d.output), append(data, '\n'), 0o644)
}

// place moves the image to its file, which may be on another file system, and removes what said something of the file before.
func (d *disk) place(ctx context.Context, image string) error {
	if err := os.Remove(besideDisk(d.output)); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("write the image: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(d.output), 0o755); err != nil { //nolint:gosec // there is no secret in an image
		return fmt.Errorf("write the image: %w", err)
	}
	if _, err := d.run(ctx, "mv", image, d.output); err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	return nil
}

// properties are what Glance keeps of the image: how Nova shall give it its hardware, and what Trove knows it by.
func properties(m imagelayout.Manifest) map[string]string {
	p := map[string]string{
		"hw_disk_bus": "virtio", "hw_vif_model": "virtio", "hw_rng_model": "virtio", "hw_qemu_guest_agent": "no", "os_type": "linux", "os_distro": "debian",
	}
	maps.Copy(p, map[string]string{"trove_image": m.ID, "trove_datastore": m.Datastore, "trove_version": m.Version, "trove_manager": m.Manager})
	return p
}

func besideDisk(file string) string { return file + ".json" }

// ReadDisk reads what stands beside a whole-disk image. NotFound where nothing does.
func ReadDisk(file string) (DiskManifest, error) {
	data, err := os.ReadFile(besideDisk(file))
	if os.IsNotExist(err) {
		return DiskManifest{}, trove.Wrap(trove.KindNotFound, err, "There is no %s: it is written beside an image when it is built.", besideDisk(file))
	}
	var m DiskManifest
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		return DiskManifest{}, fmt.Errorf("read %s: %w", besideDisk(file), err)
	}
	return m, nil
}

// signature tells the disks of images apart: four bytes in the first sector, by which a machine finds its own root.
func signature(id string) (uint32, error) {
	n, err := strconv.ParseUint(id[:8], 16, 32)
	if err != nil {
		return 0, fmt.Errorf("make the disk's signature of %s: %w", id, err)
	}
	return uint32(n) | 1, nil // 0 is none
}

// signatureText is how the bytes on the disk are written one after another.
func signatureText(n uint32) string {
	return hex.EncodeToString([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
}
