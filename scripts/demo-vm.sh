#!/usr/bin/env bash
# A Debian 12 machine with systemd and cgroup v2 under QEMU emulation: runs `make demo`, installs the service, reboots, and finds its database. The machine
# has no network. The result goes to docs/evidence/demo-vm.md. Set DEMO_VM_ACCEL=kvm where the machine can do that.
source "$(dirname "$0")/lib.sh"
need_root
work=$PWD/var/demo-vm
accel=${DEMO_VM_ACCEL:-tcg,thread=multi}
limit=${DEMO_VM_LIMIT:-5400} # seconds for everything inside the machine
mkdir -p "$work" docs/evidence
scripts/install-packages.sh vm

say "building the binaries and the packages' tests for cgroup v2"
make -s build
rm -rf "$work/tests" && mkdir -p "$work/tests"
for p in ${DEMO_VM_TESTS-cloud/local/cgroup cloud/local/sandbox cloud/local/volume cloud/local/hostnet cloud/local}; do
	CGO_ENABLED=0 go test -c -o "$work/tests/${p//\//-}.test" "./$p"
done
# The machine has no Go: what the tests build there is brought along.
CGO_ENABLED=0 go build -o "$work/tests/agent" ./cloud/local/sandbox/testdata/agent
printf '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nmkdir -p "$(dirname "$2")" && cp /srv/tests/agent "$2"\n' >"$work/tests/go" && chmod +x "$work/tests/go"

if [ ! -f "$work/root.tar" ] || [ scripts/demo-vm/customize -nt "$work/root.tar" ]; then
	say "installing Debian 12 into a root file system"
	packages=linux-image-cloud-amd64,systemd-sysv,udev,dbus,kmod,iproute2,initramfs-tools,zstd,e2fsprogs,util-linux,procps,make
	packages+=,runc,mmdebstrap,xfsprogs,nftables,mariadb-client
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null >"$work/sources" || true
	mmdebstrap --quiet --format=tar --mode=root --variant=minbase --include="$packages" --aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--essential-hook='mkdir -p "$1/etc/initramfs-tools"' --customize-hook="scripts/demo-vm/customize \"\$1\"" \
		bookworm "$work/root.tar.new" - <"$work/sources"
	mv "$work/root.tar.new" "$work/root.tar"
fi

say "making the machine's disk"
rm -rf "$work/root" "$work/disk.raw" && mkdir -p "$work/root"
tar -C "$work/root" --numeric-owner --xattrs -xf "$work/root.tar"
install -m 755 scripts/demo-vm/guest "$work/root/usr/local/sbin/demo-vm"
cp "$work"/root/boot/vmlinuz-* "$work/vmlinuz"
cp "$work"/root/boot/initrd.img-* "$work/initrd"
mkdir -p "$work/root/srv/trove/var" "$work/root/srv/tests"
git ls-files -z | xargs -0 tar -c | tar -C "$work/root/srv/trove" -x
cp -a bin "$work/root/srv/trove/" && rm -rf "$work/root/srv/trove/bin/tools"
cp "$work"/tests/* "$work/root/srv/tests/"
TROVE_CACHE=$PWD/var/cache bin/trove image build --state "$work/build" --datastore mariadb --datastore-version 10.11
cp -a "$(readlink -f var/cache)" "$work/root/srv/trove/var/cache"
rm -rf "$work/build"
truncate -s 8G "$work/disk.raw"
mkfs.ext4 -q -F -L rootfs -m 0 -d "$work/root" "$work/disk.raw"
rm -rf "$work/root"

say "starting the machine (emulated: minutes); its console is $work/console.log"
: >"$work/result.log"
started=$SECONDS
timeout -k 10 "$limit" nice -n "${DEMO_VM_NICE:-5}" qemu-system-x86_64 -machine q35 -accel "$accel" -cpu max -smp 2 -m 3072 -display none -nodefaults -no-user-config \
	-kernel "$work/vmlinuz" -initrd "$work/initrd" -append "root=LABEL=rootfs rw console=ttyS0 panic=5 systemd.unified_cgroup_hierarchy=1" \
	-drive "file=$work/disk.raw,if=virtio,format=raw,cache=writeback" -device virtio-rng-pci \
	-serial "file:$work/console.log" -serial "file:$work/result.log" || true
tr -d '\r' <"$work/result.log" >"$work/result.txt"
{
	echo "# The demo in a Debian 12 machine with systemd and cgroup v2"
	echo
	echo "Command: \`make demo-vm\`. Commit $(git rev-parse --short HEAD), $(date -u +%F), $(nproc) cores, accelerator ${accel%%,*}, $((SECONDS - started)) s in all."
	echo
	echo '```'
	cat "$work/result.txt"
	echo '```'
} >"$work/demo-vm.md"
cat "$work/result.txt"
grep -q '^RESULT: passed$' "$work/result.txt" || die "the machine did not pass; see $work/result.txt and $work/console.log"
cp "$work/demo-vm.md" docs/evidence/demo-vm.md
rm -f "$work/disk.raw"
