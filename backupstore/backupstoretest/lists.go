package backupstoretest

import (
	"fmt"
	"slices"
	"sync"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
)

func (s *suite) names(o backupstore.ListOptions) []string {
	s.Helper()
	all, err := s.Store.List(s.Context(), Box, o)
	if err != nil {
		s.Fatalf("list %+v: %v", o, err)
	}
	names := []string{}
	for _, object := range all {
		names = append(names, object.Name)
	}
	return names
}

func (s *suite) lists() {
	s.want("empty", []string{}, s.names(backupstore.ListOptions{}))
	all := []string{"a", "a-b", "a/1", "a/1/x", "a/2", "a0", "b/c/d", "Z", "é", "_"}
	for _, name := range all {
		s.put(name, "of "+name)
	}
	slices.Sort(all)
	s.want("all", all, s.names(backupstore.ListOptions{}))
	for prefix, want := range map[string][]string{
		"a": {"a", "a-b", "a/1", "a/1/x", "a/2", "a0"}, "a/": {"a/1", "a/1/x", "a/2"}, "a/1": {"a/1", "a/1/x"}, "b/c": {"b/c/d"}, "b/c/d": {"b/c/d"}, "c": {},
		"b/c/d/": {}, "\xc3": {"é"}, "a/1/x/y": {},
	} {
		s.want("prefix "+prefix, want, s.names(backupstore.ListOptions{Prefix: prefix}))
	}
	listed, err := s.Store.List(s.Context(), Box, backupstore.ListOptions{Prefix: "a/2"})
	if err != nil || len(listed) != 1 || listed[0].SHA256 != Sum("of a/2") || listed[0].Size != 6 {
		s.Errorf("listed %+v, %v", listed, err)
	}
}

func (s *suite) pages() {
	var all []string
	for _, d := range []string{"x", "x/", "x/y/", "y/"} {
		for i := range 7 {
			all = append(all, fmt.Sprintf("%s%d", d, i))
			s.put(all[len(all)-1], "")
		}
	}
	slices.Sort(all)
	for _, limit := range []int{1, 3, 28, 100} {
		var got []string
		marker := ""
		for {
			page := s.names(backupstore.ListOptions{Marker: marker, Limit: limit})
			if len(page) > limit {
				s.Fatalf("a page of %d has %d", limit, len(page))
			}
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
			marker = page[len(page)-1]
		}
		s.want(fmt.Sprintf("pages of %d", limit), all, got)
	}
	s.want("marker that is no name", []string{"y/0"}, s.names(backupstore.ListOptions{Marker: "y", Prefix: "y", Limit: 1}))
}

func (s *suite) nested() {
	s.put("a", "1")
	s.put("a/b", "2")
	s.put("a/b/c", "3")
	s.want("contents", []string{"1", "2", "3"}, []string{s.get("a"), s.get("a/b"), s.get("a/b/c")})
	if err := s.Store.Remove(s.Context(), Box, "a"); err != nil {
		s.Error(err)
	}
	s.want("names", []string{"a/b", "a/b/c"}, s.names(backupstore.ListOptions{}))
}

func (s *suite) prefixRemoved() {
	for _, name := range []string{"logs/a/1", "logs/a/2", "logs/a", "logs/ab/1", "logs/b"} {
		s.put(name, name)
	}
	n, err := s.Store.RemoveAll(s.Context(), Box, "logs/a/")
	if n != 2 || err != nil {
		s.Errorf("removed %d, %v; want 2", n, err)
	}
	s.want("names", []string{"logs/a", "logs/ab/1", "logs/b"}, s.names(backupstore.ListOptions{}))
	if n, err := s.Store.RemoveAll(s.Context(), Box, "logs/a/"); n != 0 || err != nil {
		s.Errorf("removed %d, %v once more", n, err)
	}
	_, err = s.Store.RemoveAll(s.Context(), Box, "")
	s.wantKind("remove without a prefix", trove.KindBadRequest, err)
}

// churn removes the only object of a deep name again and again while others are written beside it.
func (s *suite) churn() {
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 25 {
				name := fmt.Sprintf("deep/er/%d", w)
				if _, err := s.once(name, fmt.Sprint(i)); err != nil {
					s.Errorf("put: %v", err)
				}
				if err := s.Store.Remove(s.Context(), Box, name); err != nil {
					s.Errorf("remove: %v", err)
				}
			}
		})
	}
	all.Wait()
	s.want("names", []string{}, s.names(backupstore.ListOptions{}))
}
