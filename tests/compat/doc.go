// Package compat holds the tests that ask OpenStack's own programs: its Keystone and its clients, and its libraries as oracles, from Debian's packages.
// scripts/install-packages.sh test installs them.
package compat
