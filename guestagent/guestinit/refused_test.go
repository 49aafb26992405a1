package guestinit_test

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/guestagent/slots"
	"github.com/trove-dbaas/trove/internal/agentrelease"
)

func TestWhatMustNotRunIsRefused(t *testing.T) {
	w := newWorld(t, "1.0.0")
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.boot()
	w.release(good("2.0.0"), w.key)
	w.want("2.0.0", "op-0", nil)
	w.until("2.0.0 stays", func() bool { return w.state().Current == "2.0.0" })
	for n, c := range []struct {
		version string
		make    func()
		says    string
	}{
		{"2.1.0", func() { w.release(good("2.1.0"), stranger) }, "not by a key that is trusted"},
		{"2.2.0", func() {
			w.release(good("2.2.0"), w.key)
			w.must(os.Remove(filepath.Join(w.slots.Release("2.2.0"), agentrelease.SignatureFile)))
		}, "is not signed"},
		{"2.3.0", func() {
			w.release(good("2.3.0"), w.key)
			f, err := os.OpenFile(filepath.Join(w.slots.Release("2.3.0"), agentrelease.ProgramFile), os.O_APPEND|os.O_WRONLY, 0)
			w.must(err)
			_, err = f.WriteString(" ")
			w.must(err)
			w.must(f.Close())
		}, "is not the one that was signed"},
		{"1.9.0", func() { w.release(good("1.9.0"), w.key) }, "older than 2.0.0"},
		{"0.9.0", func() { w.release(good("0.9.0"), w.key) }, "older than 1.0.0, which came with the image"},
		{"2.4.0", func() {
			w.must(os.CopyFS(w.slots.Release("2.4.0"), os.DirFS(w.slots.Release("2.0.0"))))
		}, "lies in the place of"},
		{"../../x", func() {}, "is no version"},
		{"9.9.9", func() {}, "There is no"},
	} {
		c.make()
		w.want(c.version, "op-bad-"+strconv.Itoa(n), nil)
		w.until(c.version+" is refused", func() bool {
			f := w.state().Failed
			return f != nil && f.Version == c.version && strings.Contains(f.Sentence, c.says)
		})
		starts := w.count("2.0.0")
		w.until("2.0.0 runs", func() bool { return w.runsLast("2.0.0") && w.count("2.0.0") >= starts })
	}
	for _, v := range w.runs() {
		if v != "image" && v != "2.0.0" {
			t.Errorf("%s was run", v)
		}
	}
}

func TestADamagedReleaseIsGivenUp(t *testing.T) {
	w := newWorld(t, "1.0.0")
	w.boot()
	for _, v := range []string{"1.1.0", "1.2.0"} {
		w.release(good(v), w.key)
		w.want(v, "op-"+v, nil)
		w.until(v+" stays", func() bool { return w.state().Current == v })
	}
	program := filepath.Join(w.slots.Release("1.2.0"), agentrelease.ProgramFile)
	w.must(os.Truncate(program, 1000))
	w.killAgent()
	w.until("the one before runs", func() bool { return w.runsLast("1.1.0") && w.state().Current == "1.1.0" })
	if f := w.state().Failed; f == nil || f.Version != "1.2.0" || f.Op != "" {
		t.Errorf("failed is %+v", f)
	}
	w.must(os.RemoveAll(w.slots.Release("1.1.0")))
	w.killAgent()
	w.until("the image's runs", func() bool { return w.runsLast("image") && w.state().Current == "" })
	// A forged record leads to nothing older than the image.
	w.terminate()
	w.must(w.slots.WriteState(slots.State{Current: "0.1.0", Previous: "../../etc"}))
	w.release(good("0.1.0"), w.key)
	w.boot()
	w.until("the image's runs", func() bool { return w.runsLast("image") })
	w.terminate()
	w.must(os.WriteFile(filepath.Join(string(w.slots), "state.json"), []byte("{"), 0o600))
	w.boot()
	w.until("the image's runs", func() bool { return w.runsLast("image") })
}

// TestAKillInTheMiddleOfASwitch starts the machine again at each stage of a trial.
func TestAKillInTheMiddleOfASwitch(t *testing.T) {
	w := newWorld(t, "1.0.0")
	w.release(good("1.1.0"), w.key)
	wish := slots.Wanted{Version: "1.1.0", Op: "op-1", EngineUp: true, Healthy: patience}
	for name, prepare := range map[string]func(){
		"before the wish was read": func() { w.must(w.slots.WriteState(slots.State{})); w.must(w.slots.WriteWanted(wish)) },
		"before the wish was removed": func() {
			trial := wish
			trial.Starts = 1
			w.must(w.slots.WriteState(slots.State{Trial: &trial}))
			w.must(w.slots.WriteWanted(wish))
		},
		"while the release was on trial": func() {
			trial := wish
			trial.Starts = 2
			w.must(w.slots.WriteState(slots.State{Trial: &trial}))
			w.must(w.slots.DropWanted())
		},
	} {
		prepare()
		w.boot()
		w.until(name+": it stays", func() bool { s := w.state(); return s.Current == "1.1.0" && s.Trial == nil })
		if wanted, err := w.slots.ReadWanted(); err != nil || wanted != nil {
			t.Errorf("%s: the wish is still there: %+v %v", name, wanted, err)
		}
		w.terminate()
	}
	// A machine that went down with it three times does not get it a fourth time.
	trial := wish
	trial.Op, trial.Starts = "op-2", 3
	w.must(w.slots.WriteState(slots.State{Trial: &trial}))
	w.boot()
	w.until("the image's runs", func() bool { return w.runsLast("image") })
	if f := w.state().Failed; f == nil || !strings.Contains(f.Sentence, "ended with the machine") {
		t.Errorf("failed is %+v", f)
	}
}
