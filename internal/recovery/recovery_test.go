package recovery_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/recovery"
)

func newKey(t *testing.T) (path string, to []age.Recipient, ids []age.Identity) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	text, err := recovery.GenerateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if to, err = recovery.ParseRecipients([]string{text}); err != nil {
		t.Fatal(err)
	}
	if ids, err = recovery.ReadIdentities(path); err != nil {
		t.Fatal(err)
	}
	return path, to, ids
}

var some = recovery.Manifest{CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Deployment: "0a1b2c3d", State: "/s", Cloud: "/s"}

func write(t *testing.T, to []age.Recipient, contents ...recovery.Content) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := recovery.Write(&b, to, some, contents); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	_, to, ids := newKey(t)
	_, second, otherIDs := newKey(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), 20_000) // several chunks of the cipher
	data := write(t, append(to, second...), recovery.Bytes("state/store.db", 0o600, large), recovery.Bytes("cloud/network/17.x.json", 0o640, nil))
	if bytes.Contains(data, []byte("store.db")) || bytes.Contains(data, []byte("0123456789abcdef")) {
		t.Error("the file shows what is in it")
	}
	for _, ids := range [][]age.Identity{ids, otherIDs} {
		got := map[string]string{}
		m, err := recovery.Read(bytes.NewReader(data), ids, func(_ recovery.Manifest, p recovery.Part, r io.Reader) error {
			content, err := io.ReadAll(r)
			got[p.Name] = string(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"state/store.db": string(large), "cloud/network/17.x.json": ""}, got); diff != "" {
			t.Error(diff)
		}
		if m.Deployment != some.Deployment || m.Version != recovery.Version || m.ID() != "0a1b2c3d-20260102T030405Z" {
			t.Errorf("manifest %+v", m)
		}
	}
}

func TestASecretKeyIsForItsOwnerAndNeverShown(t *testing.T) {
	path, _, _ := newKey(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v: %v", info.Mode(), err)
	}
	if _, err := recovery.GenerateKey(path); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("over a key that is there: %v", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(string(data[bytes.LastIndex(data, []byte("AGE-SECRET-KEY")):]))
	_, err = recovery.ParseRecipients([]string{secret})
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("a secret key as a recipient: %v", err)
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte(secret[:len(secret)-3]+"AAA\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = recovery.ReadIdentities(broken)
	if err == nil || strings.Contains(err.Error(), secret[:30]) {
		t.Errorf("a broken key: %v", err)
	}
	if _, err := recovery.ParseRecipients(nil); err == nil {
		t.Error("nobody could open the export")
	}
}

// TestDamageIsFound changes and cuts an export at many places: it is refused, always.
func TestDamageIsFound(t *testing.T) {
	_, to, ids := newKey(t)
	data := write(t, to, recovery.Bytes("state/a", 0o600, bytes.Repeat([]byte("a"), 100_000)), recovery.Bytes("state/b", 0o600, []byte("b")))
	step := max(1, len(data)/97)
	for at := 0; at < len(data); at += step {
		changed := slices.Clone(data)
		changed[at] ^= 1
		if _, err := recovery.Read(bytes.NewReader(changed), ids, nil); err == nil {
			t.Errorf("byte %d of %d was changed and nothing was said", at, len(data))
		}
		if _, err := recovery.Read(bytes.NewReader(data[:at]), ids, nil); err == nil {
			t.Errorf("the file was cut at %d of %d and nothing was said", at, len(data))
		}
	}
	_, _, other := newKey(t)
	if _, err := recovery.Read(bytes.NewReader(data), other, nil); trove.KindOf(err) != trove.KindForbidden {
		t.Errorf("with another key: %v", err)
	}
}

// sealed makes an export by hand.
func sealed(t *testing.T, to []age.Recipient, m recovery.Manifest, files map[string]string, order ...string) []byte {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to...)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewWriter(w)
	put := func(name, content string) {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	put("manifest.json", string(text))
	for _, name := range order {
		put(name, files[name])
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestWhatAnEncryptedFileMayNotDo: whoever has the public half can make a file that opens; it must not write where it likes.
func TestWhatAnEncryptedFileMayNotDo(t *testing.T) {
	_, to, ids := newKey(t)
	good := recovery.Bytes("state/keys/master.key", 0o600, []byte("key")).Part
	with := func(change func(*recovery.Manifest)) recovery.Manifest {
		m := some
		m.Format, m.Version, m.Parts = recovery.Format, recovery.Version, []recovery.Part{good}
		change(&m)
		return m
	}
	named := func(name string) func(*recovery.Manifest) {
		return func(m *recovery.Manifest) { p := good; p.Name = name; m.Parts = []recovery.Part{p} }
	}
	files := map[string]string{good.Name: "key", "state/more": "x"}
	for name, c := range map[string]struct {
		change func(*recovery.Manifest)
		order  []string
		want   string
	}{
		"as it should be":     {func(*recovery.Manifest) {}, []string{good.Name}, ""},
		"another format":      {func(m *recovery.Manifest) { m.Format = "tar" }, []string{good.Name}, "format"},
		"a newer version":     {func(m *recovery.Manifest) { m.Version++ }, []string{good.Name}, "newer"},
		"up and away":         {named("state/../../etc/passwd"), []string{"state/../../etc/passwd"}, "not allowed"},
		"absolute":            {named("/etc/passwd"), []string{"/etc/passwd"}, "not allowed"},
		"not clean":           {named("state/keys/./master.key"), []string{"state/keys/./master.key"}, "not allowed"},
		"the directory":       {named("state/."), []string{"state/."}, "not allowed"},
		"another root":        {named("home/x"), []string{"home/x"}, "not allowed"},
		"a part is missing":   {func(*recovery.Manifest) {}, nil, "missing"},
		"one more":            {func(*recovery.Manifest) {}, []string{good.Name, "state/more"}, "not in the manifest"},
		"set-user-id":         {func(m *recovery.Manifest) { m.Parts[0].Mode = 0o4755 }, []string{good.Name}, "mode"},
		"twice":               {func(m *recovery.Manifest) { m.Parts = append(m.Parts, good) }, []string{good.Name, good.Name}, "twice"},
		"another hash":        {func(m *recovery.Manifest) { m.Parts[0].SHA256 = strings.Repeat("0", 64) }, []string{good.Name}, "hash"},
		"another size":        {func(m *recovery.Manifest) { m.Parts[0].Size++ }, []string{good.Name}, "stands where"},
		"another name inside": {func(*recovery.Manifest) {}, []string{"state/more"}, "stands where"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := recovery.Read(bytes.NewReader(sealed(t, to, with(c.change), files, c.order...)), ids, nil)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestEveryFileButThoseThatCanBeMadeAgain lays out a state directory as it is and looks which files are taken.
func TestEveryFileButThoseThatCanBeMadeAgain(t *testing.T) {
	state := t.TempDir()
	want := []string{
		"state/keys/master.key", "state/keys/a-new-kind-of-key", "state/openrc", "state/trove.yaml", "state/agents/1.2/manifest.json",
		"cloud/network.json", "cloud/network/17.a.json",
		"cloud/instances/a/machine.json", "cloud/instances/a/volume.json",
	}
	left := []string{
		"store.db", "store.db-wal", "store.db-shm", "trove.pid", "trove-api.pid", "probed", "log/trove.log", "cache/x/y", "shelf/spare",
		"images/i/rootfs/etc/passwd", "images/i/manifest.json", "images/i/1.img", "instances/a/volume.img", "instances/a/volume.img.part", "instances/a/console.log",
		".export-1/store.db", "export.lock", "restored.json", "before-restore-1/keys/master.key", "keys/.master.key.123", ".openrc.77",
	}
	for _, name := range append(slices.Clone(left), want...) {
		name = strings.TrimPrefix(strings.TrimPrefix(name, "state/"), "cloud/")
		path := filepath.Join(state, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(state, "agents/1.2/trove-guestagent"), make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(state, "link")); err != nil {
		t.Fatal(err)
	}
	all, out, err := recovery.Collect(state, state)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range all {
		got = append(got, c.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"state/agents/1.2/trove-guestagent"}, out); diff != "" {
		t.Error(diff)
	}
}

func TestACutOffRestoreStartsNothing(t *testing.T) {
	state := t.TempDir()
	if err := recovery.Startable(state); err != nil || recovery.Held(state) {
		t.Errorf("without a restore: %v", err)
	}
	m := recovery.Marker{Export: "x", ExportedAt: some.CreatedAt, RestoredAt: some.CreatedAt}
	if err := recovery.WriteMarker(state, m); err != nil {
		t.Fatal(err)
	}
	if err := recovery.Startable(state); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("in the middle of a restore: %v", err)
	}
	m.Whole = true
	if err := recovery.WriteMarker(state, m); err != nil {
		t.Fatal(err)
	}
	if err := recovery.Startable(state); err != nil || !recovery.Held(state) {
		t.Errorf("after it: %v", err)
	}
	for range 2 {
		if err := recovery.Finish(state); err != nil || recovery.Held(state) {
			t.Errorf("finish: %v", err)
		}
	}
}
