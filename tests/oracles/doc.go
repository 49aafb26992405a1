// Package oracles holds the tests that ask OpenStack's own programs and libraries what is right: its Keystone, and its policy engine, from Debian's packages.
// There is nothing in it but tests.
package oracles
