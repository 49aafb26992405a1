package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// VersionedRules is a Configurable engine whose rules differ between the versions of its product. It is optional: without it, Parameters holds for all.
type VersionedRules interface {
	// ParametersOf returns the rules for a version, which is the number of a datastore version ("11.8") or the product's own ("11.8.9"), ordered by name.
	// Of a version that the driver was not made for they are those of the nearest one that its data names. Parameters returns the newest.
	ParametersOf(version string) []trove.Parameter
}

// ParametersOf returns a driver's rules for a version, none if users may set nothing.
func ParametersOf(e Engine, version string) []trove.Parameter {
	if v, ok := e.(VersionedRules); ok {
		return v.ParametersOf(version)
	}
	if c, ok := e.(Configurable); ok {
		return c.Parameters()
	}
	return nil
}

// Rules are a driver's rules with the versions that each is for.
type Rules []versionedRule

type versionedRule struct {
	trove.Parameter
	Since  string `json:"since,omitempty"`  // the first version, "" from the beginning
	Before string `json:"before,omitempty"` // the first version for which it is not, "" to the end
}

// ParseRules reads a driver's file of rules. It has the form of Trove's validation rules; a rule may also have "since" and "before", versions of the
// product, and a name may have several rules then.
func ParseRules(data []byte) (Rules, error) {
	var file struct {
		Parameters Rules `json:"configuration-parameters"`
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	for _, r := range file.Parameters {
		for _, v := range []string{r.Since, r.Before} {
			if v != "" && numbers(v) == nil {
				return nil, fmt.Errorf("read the rules: the rule for %s has %q in place of a version", r.Name, v)
			}
		}
	}
	return file.Parameters, nil
}

// For returns the rules for a version, ordered by name. "" is the newest.
func (r Rules) For(version string) []trove.Parameter {
	at := numbers(version)
	var all []trove.Parameter
	for _, each := range r {
		begun := at == nil || each.Since == "" || slices.Compare(at, numbers(each.Since)) >= 0
		ended := each.Before != "" && (at == nil || slices.Compare(at, numbers(each.Before)) >= 0)
		if begun && !ended {
			all = append(all, each.Parameter)
		}
	}
	slices.SortFunc(all, func(a, b trove.Parameter) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// numbers are those that a version begins with; nil if it does not begin with one. "11.8.9-MariaDB" is 11, 8, 9.
func numbers(version string) []int {
	var all []int
	for part := range strings.SplitSeq(version, ".") {
		end := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if end < 0 {
			end = len(part)
		}
		n, err := strconv.Atoi(part[:end])
		if err != nil {
			break
		}
		all = append(all, n)
		if end < len(part) {
			break
		}
	}
	return all
}
