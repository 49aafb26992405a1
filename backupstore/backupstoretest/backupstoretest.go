// Package backupstoretest is the suite that each driver of package backupstore must pass.
//
// A driver's test calls Run with a function that makes an empty store and cleans up after itself.
package backupstoretest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
)

// Setup is an empty store to be tested.
type Setup struct {
	Store backupstore.Store
	// Reopen returns another store over the same objects, as a second process has it; nil: not to be had.
	Reopen func(t *testing.T) backupstore.Store
}

// Run runs the suite; newSetup is called for each test.
func Run(t *testing.T, newSetup func(t *testing.T) Setup) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"StoredIsRead", (*suite).stored},
		{"Ranges", (*suite).ranges},
		{"ReplacedWhole", (*suite).replaced},
		{"WriteOnce", (*suite).writeOnce},
		{"WriteOnceAtOnce", (*suite).writeOnceAtOnce},
		{"OtherThanAnnounced", (*suite).mismatch},
		{"BrokenBodyLeavesNothing", (*suite).brokenBody},
		{"CancelledLeavesNothing", (*suite).cancelled},
		{"ListsInOrder", (*suite).lists},
		{"ListsPageByPage", (*suite).pages},
		{"NamesAndNamesBelowThem", (*suite).nested},
		{"StrangeNamesStayApart", (*suite).strange},
		{"BadNamesAreRefused", (*suite).badNames},
		{"BadContainersAreRefused", (*suite).badContainers},
		{"ContainersAreApart", (*suite).apart},
		{"Removed", (*suite).removed},
		{"PrefixRemoved", (*suite).prefixRemoved},
		{"RemovalsAndWritesAtOnce", (*suite).churn},
		{"OpenObjectSurvives", (*suite).openSurvives},
		{"MetadataIsBounded", (*suite).metadata},
		{"AnotherStoreFindsAll", (*suite).reopened},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(&suite{T: t, Setup: newSetup(t)}) })
	}
}

type suite struct {
	*testing.T
	Setup
}

// Box is the container that the suite uses.
var Box = backupstore.Container{Project: "3d1c9a52-6c1e-4a0c-8f0e-1b5d0b8a7c11", Name: "database_logs"}

// Sum returns the SHA-256 of a text as the port writes it.
func Sum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (s *suite) put(name, text string) backupstore.Object {
	s.Helper()
	o, err := s.Store.Put(s.Context(), Box, name, strings.NewReader(text), backupstore.PutOptions{Size: int64(len(text)), SHA256: Sum(text)})
	if err != nil {
		s.Fatalf("put %q: %v", name, err)
	}
	return o
}

func (s *suite) get(name string) string {
	s.Helper()
	return s.getRange(name, backupstore.Range{})
}

func (s *suite) getRange(name string, r backupstore.Range) string {
	s.Helper()
	body, _, err := s.Store.Get(s.Context(), Box, name, r)
	if err != nil {
		s.Fatalf("get %q: %v", name, err)
	}
	data, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		s.Fatalf("read %q: %v", name, err)
	}
	return string(data)
}

func (s *suite) want(what string, want, got any) {
	s.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func (s *suite) wantKind(what string, want trove.Kind, err error) {
	s.Helper()
	if err == nil || trove.KindOf(err) != want {
		s.Errorf("%s: error %v, want one of kind %v", what, err, want)
	}
}

func (s *suite) absent(name string) {
	s.Helper()
	_, err := s.Store.Stat(s.Context(), Box, name)
	s.wantKind("stat "+name, trove.KindNotFound, err)
	_, _, err = s.Store.Get(s.Context(), Box, name, backupstore.Range{})
	s.wantKind("get "+name, trove.KindNotFound, err)
}

func (s *suite) stored() {
	const name, text = "a/b/log-1", "first line\nsecond line\n"
	s.absent(name)
	put, err := s.Store.Put(s.Context(), Box, name, strings.NewReader(text), backupstore.PutOptions{Size: -1, Meta: map[string]string{"lines": "2"}})
	if err != nil {
		s.Fatal(err)
	}
	got, err := s.Store.Stat(s.Context(), Box, name)
	if err != nil {
		s.Fatal(err)
	}
	s.want("put and stat", put, got)
	want := backupstore.Object{Name: name, Size: int64(len(text)), SHA256: Sum(text), Modified: got.Modified, Meta: map[string]string{"lines": "2"}}
	s.want("stat", want, got)
	if got.Modified.IsZero() {
		s.Error("no time of modification")
	}
	s.want("content", text, s.get(name))
	s.put("empty", "")
	s.want("empty content", "", s.get("empty"))
	large := strings.Repeat("0123456789abcdef", 1<<16) // more than a buffer
	s.put("large", large)
	if s.get("large") != large {
		s.Error("a megabyte came back as something else")
	}
}

func (s *suite) ranges() {
	s.put("r", "0123456789")
	for _, test := range []struct {
		r    backupstore.Range
		want string
	}{
		{backupstore.Range{}, "0123456789"},
		{backupstore.Range{Offset: 3}, "3456789"},
		{backupstore.Range{Offset: 3, Length: 4}, "3456"},
		{backupstore.Range{Length: 1}, "0"},
		{backupstore.Range{Offset: 8, Length: 100}, "89"},
		{backupstore.Range{Offset: 10}, ""},
	} {
		s.want(fmt.Sprintf("range %+v", test.r), test.want, s.getRange("r", test.r))
	}
	for _, r := range []backupstore.Range{{Offset: 11}, {Offset: -1}, {Length: -1}} {
		_, _, err := s.Store.Get(s.Context(), Box, "r", r)
		s.wantKind(fmt.Sprintf("range %+v", r), trove.KindBadRequest, err)
	}
}

func (s *suite) replaced() {
	s.put("x", "old")
	s.put("x", "new and longer")
	s.want("content", "new and longer", s.get("x"))
	s.put("x", "n")
	s.want("content", "n", s.get("x"))
	s.want("names", []string{"x"}, s.names(backupstore.ListOptions{}))
}

func (s *suite) once(name, text string) (backupstore.Object, error) {
	return s.Store.Put(s.Context(), Box, name, strings.NewReader(text), backupstore.PutOptions{Size: -1, IfAbsent: true, Meta: map[string]string{"length": strconv.Itoa(len(text))}})
}

func (s *suite) writeOnce() {
	first, err := s.once("x", "one")
	if err != nil {
		s.Fatal(err)
	}
	again, err := s.once("x", "one")
	if err != nil {
		s.Errorf("the same once more: %v", err)
	}
	s.want("the same once more", first, again)
	_, err = s.once("x", "two")
	s.wantKind("other bytes", trove.KindConflict, err)
	s.want("content", "one", s.get("x"))
}

func (s *suite) writeOnceAtOnce() {
	const writers = 8
	var all sync.WaitGroup
	var mu sync.Mutex
	var won []string
	for i := range writers {
		all.Go(func() {
			text := strings.Repeat(fmt.Sprintf("writer %d ", i), 1000)
			_, err := s.once("x", text)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, text)
			} else if trove.KindOf(err) != trove.KindConflict {
				s.Errorf("writer %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if len(won) != 1 || won[0] != s.get("x") {
		s.Errorf("%d writers won, want the one whose bytes are there", len(won))
	}
}

func (s *suite) mismatch() {
	s.put("there", "before")
	for _, o := range []backupstore.PutOptions{
		{Size: 4}, {Size: 6}, {Size: 0}, {Size: 5, SHA256: Sum("other")}, {Size: -1, SHA256: Sum("other")}, {Size: 4, SHA256: Sum("hello")},
	} {
		for _, name := range []string{"new", "there"} {
			_, err := s.Store.Put(s.Context(), Box, name, strings.NewReader("hello"), o)
			if !errors.Is(err, backupstore.ErrMismatch) || trove.KindOf(err) != trove.KindBadRequest {
				s.Errorf("put with %+v: error %v, want ErrMismatch", o, err)
			}
		}
	}
	s.absent("new")
	s.want("content", "before", s.get("there"))
}

var errBroken = errors.New("the sender went away")

func (s *suite) brokenBody() {
	s.put("there", "before")
	for _, name := range []string{"new/one", "there"} {
		body := io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), brokenReader{})
		if _, err := s.Store.Put(s.Context(), Box, name, body, backupstore.PutOptions{Size: -1}); !errors.Is(err, errBroken) {
			s.Errorf("error %v, want the reader's own", err)
		}
	}
	s.absent("new/one")
	s.want("content", "before", s.get("there"))
	s.want("names", []string{"there"}, s.names(backupstore.ListOptions{}))
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func (s *suite) cancelled() {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.Store.Put(ctx, Box, "x", strings.NewReader("hello"), backupstore.PutOptions{Size: -1}); !errors.Is(err, context.Canceled) {
		s.Errorf("put: error %v, want that of the context", err)
	}
	s.absent("x")
	s.put("x", "hello")
	if err := s.Store.Remove(ctx, Box, "x"); !errors.Is(err, context.Canceled) {
		s.Errorf("remove: error %v, want that of the context", err)
	}
	s.want("content", "hello", s.get("x"))
}

// Strange are names that are allowed, and that a careless driver mixes up or lets out of its directory.
var Strange = []string{
	"%2e%2e", "%2E%2E", "%2e%2e/%2e%2e/etc/passwd", "...", "..a", "a..", ".hidden", ".o", ".d", "x.o", "x.d", "x", "X", "x.o/y", "-rf", "~", "$HOME", "*", "?", "a b", " ",
	"a:b", "é", "e\u0301", "\u2024\u2024", "\uff0e\uff0e", "ＡＢ", "\u202egnp", "%", "%%", "%2f", "a%2fb", "a%00b", "con", "nul", "'", `"`, "&lt;", "a;b", "a\u00a0b", "unfinished", "deployment",
	strings.Repeat("é", backupstore.MaxSegment/2), strings.Repeat(strings.Repeat("z", 79)+"/", 6) + "end",
}

func (s *suite) strange() {
	for i, name := range Strange {
		s.put(name, fmt.Sprint(i))
	}
	for i, name := range Strange {
		s.want(fmt.Sprintf("content of %q", name), fmt.Sprint(i), s.get(name))
	}
	want := slices.Sorted(slices.Values(Strange))
	s.want("names", want, s.names(backupstore.ListOptions{}))
	for _, name := range Strange {
		if err := s.Store.Remove(s.Context(), Box, name); err != nil {
			s.Errorf("remove %q: %v", name, err)
		}
	}
	s.want("names", []string{}, s.names(backupstore.ListOptions{}))
}

// Bad are names that every driver refuses.
var Bad = []string{
	"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", "./a", "a\x00b", "\x00", "a\nb", "a\x7fb", "a\\b", "..\\a", "\xff", "a/\xc3", "a\u0085b",
	strings.Repeat("a", backupstore.MaxSegment+1), strings.Repeat("a/", backupstore.MaxName/2) + "b",
}

func (s *suite) badNames() {
	for _, name := range Bad {
		_, err := s.Store.Put(s.Context(), Box, name, strings.NewReader("x"), backupstore.PutOptions{Size: 1})
		s.wantKind(fmt.Sprintf("put %q", name), trove.KindBadRequest, err)
		_, _, err = s.Store.Get(s.Context(), Box, name, backupstore.Range{})
		s.wantKind(fmt.Sprintf("get %q", name), trove.KindBadRequest, err)
		_, err = s.Store.Stat(s.Context(), Box, name)
		s.wantKind(fmt.Sprintf("stat %q", name), trove.KindBadRequest, err)
		s.wantKind(fmt.Sprintf("remove %q", name), trove.KindBadRequest, s.Store.Remove(s.Context(), Box, name))
	}
	s.want("names", []string{}, s.names(backupstore.ListOptions{}))
}

func (s *suite) badContainers() {
	for _, c := range []backupstore.Container{
		{},
		{Project: "p"},
		{Project: "..", Name: "c"},
		{Project: "p", Name: ".."},
		{Project: "p/q", Name: "c"},
		{Project: "p", Name: "c/d"},
		{Project: "p", Name: "c\x00"},
		{Project: "é", Name: "c"},
		{Project: "p", Name: strings.Repeat("c", 65)},
	} {
		_, err := s.Store.Put(s.Context(), c, "x", strings.NewReader("x"), backupstore.PutOptions{Size: 1})
		s.wantKind(fmt.Sprintf("put in %+v", c), trove.KindBadRequest, err)
		_, err = s.Store.List(s.Context(), c, backupstore.ListOptions{})
		s.wantKind(fmt.Sprintf("list %+v", c), trove.KindBadRequest, err)
	}
}

func (s *suite) apart() {
	boxes := []backupstore.Container{Box, {Project: Box.Project, Name: "other"}, {Project: "p2", Name: Box.Name}, {Name: Box.Name}, {Project: "P2", Name: Box.Name}}
	for i, c := range boxes {
		if _, err := s.Store.Put(s.Context(), c, "x", strings.NewReader(fmt.Sprint(i)), backupstore.PutOptions{Size: 1}); err != nil {
			s.Fatal(err)
		}
	}
	if _, err := s.Store.RemoveAll(s.Context(), boxes[1], "x"); err != nil {
		s.Error(err)
	}
	for i, c := range boxes {
		o, err := s.Store.Stat(s.Context(), c, "x")
		if i == 1 {
			s.wantKind("removed", trove.KindNotFound, err)
			continue
		}
		s.want(fmt.Sprintf("object of %+v", c), Sum(fmt.Sprint(i)), o.SHA256)
	}
}

func (s *suite) removed() {
	s.put("a/b/c", "1")
	s.put("a/b/d", "2")
	for range 2 {
		if err := s.Store.Remove(s.Context(), Box, "a/b/c"); err != nil {
			s.Error(err)
		}
	}
	s.absent("a/b/c")
	s.want("names", []string{"a/b/d"}, s.names(backupstore.ListOptions{}))
	if err := s.Store.Remove(s.Context(), backupstore.Container{Project: "none", Name: "none"}, "x"); err != nil {
		s.Errorf("remove where there is no container: %v", err)
	}
}

func (s *suite) openSurvives() {
	text := strings.Repeat("old", 100_000)
	s.put("x", text)
	body, _, err := s.Store.Get(s.Context(), Box, "x", backupstore.Range{})
	if err != nil {
		s.Fatal(err)
	}
	defer body.Close()
	s.put("x", "new")
	if err := s.Store.Remove(s.Context(), Box, "x"); err != nil {
		s.Fatal(err)
	}
	data, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(data, []byte(text)) {
		s.Errorf("%d bytes read, %v; want those that were there when it was opened", len(data), err)
	}
}

func (s *suite) metadata() {
	for _, meta := range []map[string]string{{"big": strings.Repeat("x", backupstore.MaxMeta)}, {"a b": ""}, {"a": "b\nc"}, {"": "x"}, {"a": "\xff"}} {
		_, err := s.Store.Put(s.Context(), Box, "x", strings.NewReader(""), backupstore.PutOptions{Meta: meta})
		s.wantKind("put", trove.KindBadRequest, err)
	}
	s.absent("x")
}

func (s *suite) reopened() {
	if s.Reopen == nil {
		return
	}
	s.put("a/b", "before")
	other := s.Reopen(s.T)
	o, err := other.Stat(s.Context(), Box, "a/b")
	if err != nil || o.SHA256 != Sum("before") {
		s.Errorf("the other finds %+v, %v", o, err)
	}
	if _, err := other.Put(s.Context(), Box, "a/c", strings.NewReader("by the other"), backupstore.PutOptions{Size: -1}); err != nil {
		s.Fatal(err)
	}
	s.want("content", "by the other", s.get("a/c"))
}
