package troveimport

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ordered puts rows in the order in which they were made: a replica after its source, and every report the same.
func ordered(rows []record) []record {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b record) int {
		return cmp.Or(a.time("created").Compare(b.time("created")), strings.Compare(a["id"], b["id"]))
	})
	return rows
}

// grouped puts rows together that have the same value in a column.
func grouped(rows []record, column string) map[string][]record {
	of := map[string][]record{}
	for _, row := range rows {
		of[row[column]] = append(of[row[column]], row)
	}
	return of
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// number reads a whole number.
func number(text string) (n int, ok bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil
}

func commas(list string) []string {
	return slices.DeleteFunc(strings.Split(list, ","), func(s string) bool { return strings.TrimSpace(s) == "" })
}

// values returns what a version is restricted to.
func values(metadata []record, version, key string) []string {
	var all []string
	for _, row := range metadata {
		if row["datastore_version_id"] == version && row["key"] == key && !row.flag("deleted") && row["value"] != "" {
			all = append(all, row["value"])
		}
	}
	slices.Sort(all)
	return all
}

// created returns when a row was made; where the source does not know, it is now.
func (r *run) created(row record) time.Time {
	if t := row.time("created"); !t.IsZero() {
		return t
	}
	return r.options.Now
}

// updated returns when a row was changed last.
func (r *run) updated(row record) time.Time {
	if t := row.time("updated"); !t.IsZero() {
		return t
	}
	return r.created(row)
}
