// Package compat_test runs the real clients of OpenStack Trove over every command and method that they have: the openstack and trove programs of two releases
// of Debian, gophercloud, and terraform's way of calling it. Each command has a row that says what Trove does; what a row may differ in stands with its
// reason in testdata/expectations.json. A command without a row fails the test.
//
// The server is tests/inmemory, unless COMPAT_AUTH_URL names another one (server_test.go says what else it needs).
package compat_test
