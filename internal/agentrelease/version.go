package agentrelease

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// Version orders releases. The zero value is that of a program that is no release, such as one built from a working copy: older than every release.
type Version struct{ major, minor, patch int }

// maxPart is the largest part of a version.
const maxPart = 999999

// ParseVersion reads "MAJOR.MINOR.PATCH", each a number without leading zeros, not all 0. An error is of KindBadRequest.
func ParseVersion(s string) (Version, error) {
	parts := strings.Split(s, ".")
	var n [3]int
	ok := len(parts) == len(n)
	for i := 0; ok && i < len(n); i++ {
		v, err := strconv.Atoi(parts[i])
		ok = err == nil && v >= 0 && v <= maxPart && strconv.Itoa(v) == parts[i]
		n[i] = v
	}
	if !ok || n == [3]int{} {
		return Version{}, trove.Errorf(trove.KindBadRequest, "%q is no version of a release: it has the form 1.2.3.", clip(s))
	}
	return Version{n[0], n[1], n[2]}, nil
}

// VersionOf returns the version of a program by what the linker wrote into it: the zero Version for one that is no release.
func VersionOf(s string) Version {
	v, err := ParseVersion(s)
	if err != nil {
		return Version{}
	}
	return v
}

// Compare returns -1, 0 or +1.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.major, w.major), cmp.Compare(v.minor, w.minor), cmp.Compare(v.patch, w.patch))
}

// Less reports whether v is older than w.
func (v Version) Less(w Version) bool { return v.Compare(w) < 0 }

func (v Version) String() string {
	if v == (Version{}) {
		return "devel"
	}
	return fmt.Sprintf("%d.%d.%d", v.major, v.minor, v.patch)
}

// clip cuts what somebody else wrote to what a sentence can hold.
func clip(s string) string { return s[:min(len(s), 64)] }
