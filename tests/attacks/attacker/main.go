// Command attacker is what a tenant runs who has taken over the agent: the tests start it inside a guest's own sandbox, as root of the guest's user
// namespace, with the guest's network, identity and boot data. Each attack is a command; it reads what it shall know from the standard input and
// prints what it tried as JSON.
//
// It is for tests alone, and does nothing to a machine on which the isolation holds.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/trove-dbaas/trove/tests/attacks/attempt"
)

// attacker collects what was tried.
type attacker struct {
	in     map[string]string // what the test tells: addresses, ids
	report attempt.Report
}

// attacks are the commands, by name.
var attacks = map[string]func(*attacker) error{}

func register(more map[string]func(*attacker) error) bool {
	maps.Copy(attacks, more)
	return true
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "attacker:", err)
		os.Exit(1)
	}
}

const (
	self          = "/proc/self/fd/3" // the program: a file in memory
	enterCommand  = "enter"
	insideCommand = "inside"
)

func run() error {
	switch {
	case len(os.Args) == 4 && os.Args[1] == enterCommand:
		pid, err := strconv.Atoi(os.Args[2])
		if err != nil {
			return err
		}
		return enter(pid, os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == insideCommand:
		return inside(os.Args[2])
	}
	if len(os.Args) != 2 || attacks[os.Args[1]] == nil {
		var names []string
		for name := range attacks {
			names = append(names, name)
		}
		slices.Sort(names)
		return errors.New("one of these is needed: " + strings.Join(names, " "))
	}
	a := &attacker{report: attempt.Report{Facts: map[string]string{}}}
	if err := json.NewDecoder(os.Stdin).Decode(&a.in); err != nil {
		return fmt.Errorf("read the input: %w", err)
	}
	if err := attacks[os.Args[1]](a); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(a.report)
}

// try notes an attack: no error means that it succeeded.
func (a *attacker) try(what string, err error) { a.note(what, false, err == nil, text(err)) }

// own notes a control.
func (a *attacker) own(what string, err error) { a.note(what, true, err == nil, text(err)) }

func (a *attacker) note(what string, own, done bool, got string) {
	a.report.Acts = append(a.report.Acts, attempt.Act{What: what, Own: own, Done: done, Got: got})
}

func (a *attacker) fact(name, value string) { a.report.Facts[name] = value }

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
