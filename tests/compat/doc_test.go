// Package compat_test runs the real clients of OpenStack Trove over every command and method that they have: the openstack and trove programs of two releases
// of Debian, gophercloud, and terraform's way of calling it; and Horizon with trove-dashboard over its pages, and Tempest with its plugin for Trove over its
// tests. Each command, page and test has a row that says what Trove does; what a row may differ in stands with its
// reason in testdata/expectations.json. What has no row fails the test.
//
// The server is tests/inmemory, unless COMPAT_AUTH_URL names another one (server_test.go says what else it needs).
package compat_test
