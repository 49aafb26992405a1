package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/execx"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

func goldenFile(sizeMiB int) string { return "volume-" + strconv.Itoa(sizeMiB) + ".xfs" }

// assemble puts an image together in the directory work.
func (b *build) assemble(ctx context.Context, work string, r root) error {
	agentDir, rootfs := filepath.Join(work, "agent"), filepath.Join(work, "rootfs")
	if err := os.MkdirAll(agentDir, 0o755); err != nil { //nolint:gosec // guests look into it, with user ids of their own
		return fmt.Errorf("make the image: %w", err)
	}
	if err := b.copyAgent(filepath.Join(agentDir, filepath.Base(imagelayout.AgentBin))); err != nil {
		return err
	}
	if err := b.writeKeys(filepath.Join(agentDir, filepath.Base(imagelayout.AgentKeys))); err != nil {
		return err
	}
	if err := os.Chmod(agentDir, 0o755); err != nil { //nolint:gosec // as above, whatever our umask is
		return fmt.Errorf("make the image: %w", err)
	}
	b.say(73, "Copying the root file system.")
	if err := b.copyTree(ctx, b.rootDir(r.Hash), rootfs); err != nil {
		return err
	}
	sizes := b.recipe.GoldensMiB
	first := filepath.Join(work, "first.img")
	for i, size := range sizes {
		b.say(75+i*20/len(sizes), "Making the golden volume of %d GiB (%d of %d).", size/1024, i+1, len(sizes))
		img := filepath.Join(work, "next.img")
		if i == 0 {
			img = first
		}
		if err := b.makeVolume(ctx, img, size); err != nil {
			return err
		}
		if i == 0 {
			if err := b.initialise(ctx, img, rootfs, agentDir); err != nil {
				return err
			}
		} else if err := b.fill(ctx, first, img); err != nil {
			return err
		}
		if err := b.squeeze(ctx, img, filepath.Join(work, goldenFile(size))); err != nil {
			return err
		}
		if i > 0 {
			if err := os.Remove(img); err != nil {
				return fmt.Errorf("tidy the image: %w", err)
			}
		}
	}
	b.say(96, "Writing the image to the disk.")
	if err := os.Remove(first); err != nil {
		return fmt.Errorf("tidy the image: %w", err)
	}
	return syncAll(work)
}

// copyAgent copies the binary and sees that it is the one whose hash is in the image's id.
func (b *build) copyAgent(to string) error {
	data, err := os.ReadFile(b.spec.AgentBinary)
	if err != nil {
		return fmt.Errorf("copy the guest agent: %w", err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil { //nolint:gosec // a program
		return fmt.Errorf("copy the guest agent: %w", err)
	}
	if err := os.Chmod(to, 0o755); err != nil { //nolint:gosec // a program
		return fmt.Errorf("copy the guest agent: %w", err)
	}
	hash, err := hashFile(to)
	if err == nil && hash != b.agent {
		err = errors.New("the binary changed while the image was made; build again")
	}
	if err != nil {
		return fmt.Errorf("copy the guest agent: %w", err)
	}
	return nil
}

// writeKeys puts the keys of those who sign releases beside the agent.
func (b *build) writeKeys(to string) error {
	if b.spec.AgentKeys == nil {
		return nil
	}
	if err := os.WriteFile(to, b.spec.AgentKeys, 0o644); err != nil { //nolint:gosec // public keys
		return fmt.Errorf("write the release keys: %w", err)
	}
	if err := os.Chmod(to, 0o644); err != nil { //nolint:gosec // public keys
		return fmt.Errorf("write the release keys: %w", err)
	}
	return nil
}

// copyTree copies a tree with hard links, which costs no space; on another file system it copies the content.
func (b *build) copyTree(ctx context.Context, from, to string) error {
	_, err := b.run(ctx, "cp", "--archive", "--link", from, to)
	if err == nil {
		return nil
	}
	b.spec.Log.Debug("hard links were not possible", "err", err)
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("copy the root file system: %w", err)
	}
	if _, err := b.run(ctx, "cp", "--archive", from, to); err != nil {
		return fmt.Errorf("copy the root file system: %w", err)
	}
	return nil
}

// makeVolume makes an empty xfs in a sparse file. Its sectors are of 4096 bytes whatever the disk's are: a volume made with 512 cannot be mounted
// through a direct-I/O loop on a disk with 4096.
func (b *build) makeVolume(ctx context.Context, img string, sizeMiB int) error {
	f, err := os.OpenFile(img, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make a volume: %w", err)
	}
	if err := errors.Join(f.Truncate(int64(sizeMiB)<<20), f.Close()); err != nil {
		return fmt.Errorf("make a volume: %w", err)
	}
	if _, err := b.run(ctx, "mkfs.xfs", "-q", "-s", "size=4096", img); err != nil {
		return fmt.Errorf("make a volume: %w", err)
	}
	return nil
}

// initialiseScript runs in namespaces of its own: mounts, loop device and processes end with it, also when it is killed. The root is read-only as in
// a guest; /dev has the few nodes that programs expect.
const initialiseScript = `set -eu
img=$1 root=$2 agent=$3
shift 3
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t xfs -o loop,nodev,nosuid,noexec,noatime "$img" "$root/data"
mount --bind "$agent" "$root/agent"
mount -o remount,bind,ro "$root/agent"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t proc none "$root/proc"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for d in null zero random urandom; do
	: >"$root/dev/$d"
	mount --bind "/dev/$d" "$root/dev/$d"
done
chmod 0755 "$root/data"
chroot "$root" "$@"
rm -rf "$root/data/trove"
fstrim "$root/data"
umount "$root/data"
`

// initialise lets the agent make the database in the volume, in the image's own root, without a network.
func (b *build) initialise(ctx context.Context, img, rootfs, agentDir string) error {
	args := []string{
		"--net", "--ipc", "--uts", "sh", "-c", initialiseScript, "initialise", img, rootfs, agentDir,
		imagelayout.AgentBin, "initialise", "--engine", b.recipe.Manager,
	}
	if err := b.apart(ctx, args, img); err != nil {
		return fmt.Errorf("initialise the database: %w", err)
	}
	return nil
}

// fillScript copies one volume's files into another; see initialiseScript.
const fillScript = `set -eu
mount -t tmpfs -o mode=0700 tmpfs "$3"
mkdir "$3/from" "$3/to"
mount -t xfs -o loop,ro,nouuid "$1" "$3/from"
mount -t xfs -o loop,nouuid,noatime "$2" "$3/to"
cp --archive --sparse=always "$3/from/." "$3/to/"
fstrim "$3/to"
umount "$3/to"
`

// fill gives a volume the content of another. It must be made by mkfs with its own size, as the number of allocation groups never shrinks.
func (b *build) fill(ctx context.Context, from, to string) error {
	at, err := os.MkdirTemp(filepath.Dir(to), "mount")
	if err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	err = b.apart(ctx, []string{"sh", "-c", fillScript, "fill", from, to, at}, from, to)
	if removed := os.Remove(at); err == nil {
		err = removed
	}
	if err != nil {
		return fmt.Errorf("copy the database: %w", err)
	}
	return nil
}

// squeeze copies an image file and leaves every block of zeros a hole: the file system's log alone is 64 MB of them.
func (b *build) squeeze(ctx context.Context, from, to string) error {
	if _, err := b.run(ctx, "cp", "--sparse=always", from, to); err != nil {
		return fmt.Errorf("copy a volume: %w", err)
	}
	return nil
}

// run runs a program that keeps our locks for as long as it lives.
func (b *build) run(ctx context.Context, path string, args ...string) ([]byte, error) {
	return execx.Run(ctx, execx.Cmd{Path: path, Args: args, ExtraFiles: b.held, Dir: "/"})
}

// apart runs a program in namespaces of its own that mounts images. They are free again when it returns, however the program ended.
func (b *build) apart(ctx context.Context, program []string, images ...string) error {
	_, err := b.run(ctx, "unshare", slices.Concat(namespaces, program)...)
	b.freed(context.WithoutCancel(ctx), images)
	return err
}

// freeTimeout bounds the wait for images to be free.
const freeTimeout = 30 * time.Second

// freed waits until no loop device has one of the images. The kernel takes the namespaces of a program that was killed away behind its back.
func (b *build) freed(ctx context.Context, images []string) {
	images = slices.Clone(images)
	for n, i := range images {
		if real, err := filepath.EvalSymlinks(i); err == nil { // as the kernel names it
			images[n] = real
		}
	}
	for waited := clock.Stopwatch(); attached(images); {
		if waited() > freeTimeout {
			b.spec.Log.Warn("an image is still attached to a loop device", "images", images)
			return
		}
		if clock.Sleep(ctx, 2*time.Millisecond) != nil {
			return
		}
	}
}

// attached reports whether a loop device has one of the files.
func attached(files []string) bool {
	found, _ := filepath.Glob("/sys/block/loop*/loop/backing_file") // the pattern is good
	return slices.ContainsFunc(found, func(f string) bool {
		data, err := os.ReadFile(f)
		return err == nil && slices.Contains(files, strings.TrimSuffix(strings.TrimSpace(string(data)), " (deleted)"))
	})
}

// syncAll brings the file system that a directory is on to the disk: the manifest must not be there before the rest.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write the image to the disk: %w", err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("write the image to the disk: %w", err)
	}
	return nil
}
