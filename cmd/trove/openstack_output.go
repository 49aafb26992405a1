package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
)

// bootstrapOutput shows what a bootstrap finds and does: a line for each thing as soon as it is known, or all of it as JSON at the end.
type bootstrapOutput struct {
	json    bool
	dry     bool
	known   bool // the service's configuration is there: it need not be shown
	w       bootstrap.Wanted
	steps   []bootstrapLine
	changes int
	yours   int
}

type bootstrapLine struct {
	Part   bootstrap.Part `json:"part"`
	Name   string         `json:"name"`
	State  string         `json:"state"`
	Detail string         `json:"detail"`
}

func newBootstrapOutput(format string, dry, known bool, w bootstrap.Wanted) *bootstrapOutput {
	return &bootstrapOutput{json: format == "json", dry: dry, known: known, w: w, steps: []bootstrapLine{}}
}

func (o *bootstrapOutput) begin() {
	if o.json || !o.w.Has(bootstrap.PartSubnet) {
		return
	}
	fmt.Fprintln(os.Stdout, "Addresses of the management network:")
	for _, l := range o.w.Size.Lines() {
		fmt.Fprintln(os.Stdout, "  "+l)
	}
	fmt.Fprintln(os.Stdout)
}

// words are what is said of a state, in a dry run and after it was done.
var words = map[bootstrap.State][2]string{
	bootstrap.There: {"there", "there"}, bootstrap.Make: {"would make", "made"}, bootstrap.Change: {"would change", "changed"},
	bootstrap.Yours: {"to do", "to do"}, bootstrap.Refused: {"refused", "refused"},
}

func (o *bootstrapOutput) step(s bootstrap.Step) {
	word := words[s.State][1]
	if o.dry {
		word = words[s.State][0]
	} else if s.State == bootstrap.Make && s.Action == nil {
		return // it comes when what it depends on is there
	}
	if s.Action != nil {
		o.changes++
	}
	if s.State == bootstrap.Yours {
		o.yours++
	}
	o.steps = append(o.steps, bootstrapLine{s.Part, s.Name, word, s.Detail})
	if o.json {
		return
	}
	first, more, _ := strings.Cut(s.Detail, "\n")
	fmt.Fprintf(os.Stdout, "%-12s  %-17s  %s: %s\n", word, s.Part, s.Name, first)
	for line := range strings.Lines(more) {
		fmt.Fprintf(os.Stdout, "%-12s  %-17s  %s\n", "", "", strings.TrimSuffix(line, "\n"))
	}
}

func (o *bootstrapOutput) end(f bootstrap.Found) {
	section, err := bootstrap.WithSettings(nil, bootstrap.Settings(o.w, f))
	if err != nil {
		section = nil
	}
	if o.json {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		_ = e.Encode(struct {
			DryRun        bool            `json:"dry_run"`
			Changes       int             `json:"changes"`
			Steps         []bootstrapLine `json:"steps"`
			Addresses     int             `json:"addresses"`
			Prefix        int             `json:"prefix"`
			Configuration string          `json:"configuration"`
		}{o.dry, o.changes, o.steps, o.w.Size.Addresses(), o.w.Size.Bits(), string(section)})
		return
	}
	fmt.Fprintln(os.Stdout)
	switch {
	case o.dry:
		fmt.Fprintf(os.Stdout, "Things that would be made or changed: %d; nothing was.\n", o.changes)
	case o.changes == 0:
		fmt.Fprintln(os.Stdout, "Nothing had to be changed.")
	default:
		fmt.Fprintf(os.Stdout, "Things that were made or changed: %d.\n", o.changes)
	}
	if o.yours > 0 {
		fmt.Fprintf(os.Stdout, "Left for you to do: %d; then look with: trove openstack check\n", o.yours)
	}
	if o.w.ConfigFile == "" && !o.known {
		fmt.Fprintf(os.Stdout, "\nThe configuration of the service on this host needs (--write-config writes it):\n\n%s", section)
	}
}
