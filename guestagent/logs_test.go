package guestagent_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestapi"
)

// objectStore is the object gateway for one guest.
type objectStore struct {
	mu      sync.Mutex
	objects map[string]string
	fail    int // after so many objects; 0: never
}

func (o *objectStore) PutLines(_ context.Context, grant guestapi.Grant, name string, body io.Reader, _ int64) (guestapi.StoredObject, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	data, err := io.ReadAll(body)
	if err != nil {
		return guestapi.StoredObject{}, err
	}
	if o.fail > 0 && len(o.objects) == o.fail {
		return guestapi.StoredObject{}, trove.Errorf(trove.KindUnavailable, "The gateway does not answer.")
	}
	if !strings.HasPrefix(name, grant.Prefix) || o.objects[name] != "" {
		return guestapi.StoredObject{}, trove.Errorf(trove.KindForbidden, "%s is refused", name)
	}
	o.objects[name] = string(data)
	sum := sha256.Sum256(data)
	return guestapi.StoredObject{Name: name, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}, nil
}

func (*objectStore) Get(context.Context, guestapi.Grant, string) (io.ReadCloser, error) {
	return nil, errors.New("nothing is read here")
}

// logGuest is a prepared guest with an object store.
type logGuest struct {
	*guest
	objects *objectStore
	client  *guestapi.Client
	count   int
}

func newLogGuest(t *testing.T) *logGuest {
	t.Helper()
	g := &logGuest{guest: newGuest(t), objects: &objectStore{objects: map[string]string{}}}
	g.cfg.Objects = g.objects
	g.prepared()
	g.client = guestapi.NewClient(g.ctl)
	return g
}

func (g *logGuest) write(text string) {
	g.t.Helper()
	f, err := os.OpenFile(fake.LogFile(g.layout), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// publish publishes from where the last publication ended, and returns the text of what was written.
func (g *logGuest) publish(last guestapi.LogPublished, most int64) (guestapi.LogPublished, string) {
	g.t.Helper()
	g.count++
	prefix := fmt.Sprintf("logs/%d/", g.count)
	done, err := g.client.PublishLog(g.t.Context(), g.id, guestapi.PublishLogArgs{
		Name: "error", From: last.To, Header: last.Header, Grant: guestapi.Grant{URLs: []string{"x"}, Method: "PUT", Prefix: prefix, MaxBytes: most},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	var text strings.Builder
	for _, s := range done.Segments {
		part := g.objects.objects[s.Name]
		if int64(len(part)) != s.Size || int64(strings.Count(part, "\n")) != s.Lines || s.Size > 1_000_000 {
			g.t.Errorf("segment %+v has %d bytes", s, len(part))
		}
		text.WriteString(part)
	}
	return done, text.String()
}

func (g *logGuest) truncate() {
	g.t.Helper()
	if err := os.WriteFile(fake.LogFile(g.layout), nil, 0o600); err != nil {
		g.t.Fatal(err)
	}
}

func manyLines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "%06d %s\n", i, strings.Repeat("x", 90))
	}
	return b.String()
}

const plenty = 1 << 30

func TestPublishesWhatIsNew(t *testing.T) {
	g := newLogGuest(t)
	g.truncate()
	if done, text := g.publish(guestapi.LogPublished{}, plenty); text != "" || len(done.Segments) != 0 {
		t.Errorf("an empty log: %+v", done)
	}
	first := manyLines(0, 25_000) // two segments and a half
	g.write(first + "not yet whole")
	done, text := g.publish(guestapi.LogPublished{}, plenty)
	if text != first || len(done.Segments) != 3 || done.From != 0 || done.Restarted {
		t.Errorf("%d bytes in %d segments, want %d in 3", len(text), len(done.Segments), len(first))
	}
	if again, text := g.publish(done, plenty); text != "" || again.To != done.To {
		t.Errorf("nothing new: %+v", again)
	}
	g.write(" line\n" + manyLines(1, 3))
	next, text := g.publish(done, plenty)
	if text != "not yet whole line\n"+manyLines(1, 3) || next.From != done.To {
		t.Errorf("new lines: %q", text)
	}
	g.truncate()
	g.write(manyLines(7, 9))
	anew, text := g.publish(next, plenty)
	if !anew.Restarted || anew.From != 0 || text != manyLines(7, 9) {
		t.Errorf("begun anew: %+v %q", anew, text)
	}
}

func TestPublishesAsMuchAsTheGrantAllows(t *testing.T) {
	g := newLogGuest(t)
	g.truncate()
	all := manyLines(0, 100)
	g.write(all)
	var done guestapi.LogPublished
	var text strings.Builder
	for range 20 {
		next, part := g.publish(done, 1000)
		if len(part) > 1000 {
			t.Fatalf("%d bytes with a grant for 1000", len(part))
		}
		text.WriteString(part)
		done = next
	}
	if text.String() != all {
		t.Errorf("%d bytes in pieces, want %d", text.Len(), len(all))
	}
}

func TestLineLongerThanASegment(t *testing.T) {
	g := newLogGuest(t)
	g.truncate()
	text := strings.Repeat("y", 2_500_000) + "\nshort\n"
	g.write(text)
	if _, got := g.publish(guestapi.LogPublished{}, plenty); got != text {
		t.Errorf("%d bytes, want %d", len(got), len(text))
	}
}

func TestPublicationThatBreaksOff(t *testing.T) {
	g := newLogGuest(t)
	g.truncate()
	g.write(manyLines(0, 25_000))
	g.objects.fail = 1
	_, err := g.client.PublishLog(t.Context(), g.id, guestapi.PublishLogArgs{Name: "error", Grant: guestapi.Grant{Prefix: "p/", MaxBytes: plenty}})
	if trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("error %v, want the gateway's", err)
	}
}

func TestLogsAreListedAndSwitched(t *testing.T) {
	g := newLogGuest(t)
	list := func() map[string]guestapi.LogState {
		t.Helper()
		all, err := g.client.Logs(t.Context(), g.id)
		if err != nil {
			t.Fatal(err)
		}
		by := map[string]guestapi.LogState{}
		for _, l := range all {
			by[l.Name] = l
		}
		return by
	}
	g.truncate()
	g.write("a line\nhalf")
	before := list()
	if e := before["error"]; !e.System || !e.Enabled || e.Size != 11 || len(e.Header) != 64 {
		t.Errorf("error: %+v", e)
	}
	if before["general"].Enabled {
		t.Error("general is on")
	}
	if err := g.client.SetLog(t.Context(), g.id, "general", true); err != nil {
		t.Fatal(err)
	}
	if !list()["general"].Enabled {
		t.Error("general is off")
	}
	for name, want := range map[string]trove.Kind{"error": trove.KindBadRequest, "none": trove.KindNotFound, "../x": trove.KindNotFound} {
		if err := g.client.SetLog(t.Context(), g.id, name, true); trove.KindOf(err) != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// TestLogThatIsALinkIsNotRead: an engine that was taken over puts a link to what it may not read in the place of its log.
func TestLogThatIsALinkIsNotRead(t *testing.T) {
	g := newLogGuest(t)
	secret := filepath.Join(g.layout.State, "secret")
	if err := os.WriteFile(secret, []byte("not for the engine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(fake.LogFile(g.layout)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, fake.LogFile(g.layout)); err != nil {
		t.Fatal(err)
	}
	_, err := g.client.PublishLog(t.Context(), g.id, guestapi.PublishLogArgs{Name: "error", Grant: guestapi.Grant{Prefix: "p/", MaxBytes: plenty}})
	if err == nil || len(g.objects.objects) != 0 {
		t.Errorf("published %v, %v", g.objects.objects, err)
	}
}
