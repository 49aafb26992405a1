package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// arguments explains what stands for what in a usage line.
var arguments = map[string]string{
	"CONFIGURATION": "the name or id of a configuration group, see `trove configuration list`",
	"DATABASE":      "the name of a database",
	"DATASTORE":     "the name or id of a datastore, see `trove datastore list`",
	"FLAVOR":        "the name or id of a flavor, see `trove flavor list`",
	"GIB":           "the new size in GiB",
	"INSTANCE":      "the name or id of an instance, see `trove instance list`",
	"IMAGE":         "the id of an image",
	"LIMIT":         "a whole number, -1 for no limit",
	"MANAGER":       "the engine driver, such as mariadb",
	"NAME":          "the name of what is meant",
	"OPERATION":     "the id of an operation, see `trove operation list`",
	"PARAMETER":     "the name of a parameter, see `trove configuration parameter list`",
	"PROJECT_ID":    "the id of a project",
	"RESOURCE":      "what is limited, see `trove quota show`",
	"USER[@HOST]":   "a database user, with @HOST if it may not come from everywhere",
	"VALUES":        "values by parameter, as a JSON object, or - for the standard input",
	"VERSION_ID":    "the id of a datastore version, see `trove datastore version list`",
	"VERSION":       "the name or id of a version, see `trove datastore version list`",
}

// otherWords are what people type who know other programs.
var otherWords = map[string][]string{
	"list":   {"ls"},
	"show":   {"get", "describe", "info"},
	"delete": {"rm", "remove", "drop", "destroy"},
	"create": {"add", "new"},
	"update": {"set", "edit", "change"},
}

// explain makes a command and all below it say what is wrong with a call and what is right. It turns each such error into a *UsageError.
func explain(cmd *cobra.Command) {
	cmd.SuggestFor = append(cmd.SuggestFor, otherWords[cmd.Name()]...)
	if cmd.Example == "" {
		cmd.Example = examples[verb(cmd)]
	}
	check := cmd.Args
	cmd.Args = func(c *cobra.Command, args []string) error {
		if check != nil {
			if err := check(c, args); err != nil {
				return wrongArguments(c, args, err)
			}
		}
		return wrongFlags(c)
	}
	for _, sub := range cmd.Commands() {
		explain(sub)
	}
}

// verb is the command without the program's name.
func verb(cmd *cobra.Command) string {
	_, v, _ := strings.Cut(cmd.CommandPath(), " ")
	return v
}

func wrongArguments(cmd *cobra.Command, args []string, err error) error {
	if cmd.HasSubCommands() {
		return unknownCommand(cmd, args[0])
	}
	wanted := strings.Fields(cmd.Use)[1:]
	required := slices.DeleteFunc(slices.Clone(wanted), func(w string) bool { return strings.HasPrefix(w, "[") })
	switch {
	case len(args) < len(required):
		missing := strings.TrimSuffix(required[len(args)], "...")
		return usagef("%s needs %s: %s; `%s --help` has more.", verb(cmd), missing, arguments[missing], cmd.CommandPath())
	case len(wanted) == 0:
		return usagef("%s takes no argument: %q is too much; `%s --help` has more.", verb(cmd), args[0], cmd.CommandPath())
	case len(args) > len(wanted):
		return usagef("%s takes %s: %q is too much; `%s --help` has more.", verb(cmd), strings.Join(wanted, " "), args[len(wanted)], cmd.CommandPath())
	}
	return usagef("%s: %v; `%s --help` has more.", verb(cmd), err, cmd.CommandPath())
}

func unknownCommand(cmd *cobra.Command, word string) error {
	hint := ""
	cmd.SuggestionsMinimumDistance = min(2, len(word)/2) // a word of three letters is two away from too many
	if near := cmd.SuggestionsFor(word); len(near) > 0 {
		hint = fmt.Sprintf(" Did you mean `%s %s`?", cmd.CommandPath(), near[0])
	}
	return usagef("`%s` has no command %q.%s `%s --help` lists all.", cmd.CommandPath(), word, hint, cmd.CommandPath())
}

// wrongFlags is cobra's own check, done early: later its errors could not be told from those of the command.
func wrongFlags(cmd *cobra.Command) error {
	var missing *pflag.Flag
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if missing == nil && !f.Changed && slices.Contains(f.Annotations[cobra.BashCompOneRequiredFlag], "true") {
			missing = f
		}
	})
	if missing != nil {
		return usagef("%s needs --%s: %s; `%s --help` has more.", verb(cmd), missing.Name, strings.TrimSuffix(missing.Usage, " (required)"), cmd.CommandPath())
	}
	if err := cmd.ValidateFlagGroups(); err != nil {
		return usagef("%s: %v; `%s --help` has more.", verb(cmd), err, cmd.CommandPath())
	}
	return nil
}

func flagError(cmd *cobra.Command, err error) error {
	return usagef("%s: %v; `%s --help` lists the flags.", orElse(verb(cmd), cmd.Name()), err, cmd.CommandPath())
}
