// Package trove is the domain of the database service in Trove's own words: instance, datastore, datastore version, guest, flavor,
// operation, quota, and the errors that cross the borders between components.
//
// It imports the standard library only and does no input or output. Its types are values: copying one is safe, sharing one between
// goroutines needs the caller's care.
package trove
