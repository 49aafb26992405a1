// Package machine_test boots a whole-disk image in an emulated machine, with a config drive as Nova makes it, a volume with a serial number, a management
// and a user network, and a real broker on the host's side: the guest enrols, its database is prepared, used, grown, stopped by the power button, rebuilt with
// other user data, and kept.
//
// It needs root's packages qemu-system-x86 and genisoimage, and an image of MariaDB whose file is in TROVE_TEST_DISK; scripts/machinetest.sh sees to both.
// Everything listens on loopback.
package machine_test
