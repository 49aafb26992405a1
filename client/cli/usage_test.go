package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/client/cli"
)

// answer is a service that always says the same, after the login.
type answer struct {
	status int
	body   string
}

func (a answer) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/auth/tokens") {
		return newFakeAPI().RoundTrip(r)
	}
	return &http.Response{
		StatusCode: a.status, Status: fmt.Sprint(a.status), Request: r, Body: io.NopCloser(strings.NewReader(a.body)),
		Header: http.Header{"X-Openstack-Request-Id": {"req-42"}},
	}, nil
}

// emptyList has nothing of anything.
type emptyList struct{}

func (emptyList) RoundTrip(r *http.Request) (*http.Response, error) {
	return answer{http.StatusOK, "{}"}.RoundTrip(r)
}

func TestWrongCalls(t *testing.T) {
	for call, want := range map[string]string{
		"instance show":                   "instance show needs INSTANCE: the name or id of an instance, see `trove instance list`; `trove instance show --help` has more.",
		"instance resize flavor shop":     "instance resize flavor needs FLAVOR: the name or id of a flavor, see `trove flavor list`; `trove instance resize flavor --help` has more.",
		"user grant shop app":             "user grant needs DATABASE: the name of a database; `trove user grant --help` has more.",
		"instance delete":                 "instance delete needs INSTANCE: the name or id of an instance, see `trove instance list`; `trove instance delete --help` has more.",
		"instance show a b":               "instance show takes INSTANCE: \"b\" is too much; `trove instance show --help` has more.",
		"quota show a b":                  "quota show takes [PROJECT_ID]: \"b\" is too much; `trove quota show --help` has more.",
		"flavor list all":                 "flavor list takes no argument: \"all\" is too much; `trove flavor list --help` has more.",
		"instance shwo x":                 "`trove instance` has no command \"shwo\". Did you mean `trove instance show`? `trove instance --help` lists all.",
		"instance rm x":                   "`trove instance` has no command \"rm\". Did you mean `trove instance delete`? `trove instance --help` lists all.",
		"flavour list":                    "`trove` has no command \"flavour\". Did you mean `trove flavor`? `trove --help` lists all.",
		"foo":                             "`trove` has no command \"foo\". `trove --help` lists all.",
		"zzzzzz":                          "`trove` has no command \"zzzzzz\". `trove --help` lists all.",
		"instance create x":               "instance create needs --flavor: flavor, by name or id; `trove instance create --help` has more.",
		"instance list --sise 3":          "instance list: unknown flag: --sise; `trove instance list --help` lists the flags.",
		"--nonsense":                      "trove: unknown flag: --nonsense; `trove --help` lists the flags.",
		"instance list -f xml":            "--format: \"xml\" is none of table, json, yaml, csv, value.",
		"flavor list -c color":            "--column: there is no column \"color\"; there are ID, Name, RAM, vCPUs, Disk.",
		"instance resize volume shop big": "GIB: \"big\" is not a whole number.",
		"quota update p instances many":   "LIMIT: \"many\" is not a whole number.",
		"instance update shop":            "Nothing to change: give --name, --configuration, --remove-configuration, --is-public, --is-private or --allowed-cidr.",
		"user update shop app":            "Nothing to change: give --name, --host, --password or --password-file.",
		"instance update shop --is-public --is-private": "instance update: if any flags in the group [is-public is-private] are set none of the others can be; [is-private is-public] were all set; `trove instance update --help` has more.",
	} {
		t.Run(call, func(t *testing.T) {
			api := newFakeAPI()
			message, code := cli.Explain(newShell(api).run(t, strings.Fields(call)...))
			if diff := cmp.Diff(want, message); diff != "" || code != cli.ExitUsage {
				t.Errorf("exit code %d, -want +got\n%s", code, diff)
			}
			if asked := api.asked(); len(asked) > 0 {
				t.Errorf("a wrong call changed something: %q", asked)
			}
		})
	}
}

func TestServerErrors(t *testing.T) {
	fault := func(status int) answer {
		return answer{status, fmt.Sprintf(`{"fault":{"code":%d,"message":"No."}}`, status)}
	}
	for status, want := range map[int]string{403: "No.", 500: "No. (request req-42)", 503: "No. (request req-42)"} {
		message, code := cli.Explain(newShell(fault(status)).run(t, "flavor", "list"))
		if message != want || code != cli.ExitFailed {
			t.Errorf("%d: %q, exit code %d; want %q", status, message, code, want)
		}
	}
}

func TestExplain(t *testing.T) {
	wrapped := trove.Wrap(trove.KindUnavailable, errors.New("inner"), "Outer.")
	for want, err := range map[string]error{
		"":                 nil,
		"stopped.":         fmt.Errorf("list: %w", context.Canceled),
		"Outer.":           wrapped,
		"No. (request r)":  &client.Error{Status: 500, Message: "No.", RequestID: "r"},
		"something else":   errors.New("something else"),
		"No id was given.": &client.Error{Status: 500, Message: "No id was given."},
	} {
		if got, _ := cli.Explain(err); got != want {
			t.Errorf("Explain(%v) = %q, want %q", err, got, want)
		}
	}
}

func TestMissingVariablesAreNamed(t *testing.T) {
	for _, name := range []string{"OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME"} {
		s := newShell(newFakeAPI())
		delete(s.vars, name)
		message, code := cli.Explain(s.run(t, "instance", "list"))
		if !strings.HasPrefix(message, name+" is not set") || code != cli.ExitFailed {
			t.Errorf("without %s: %q, exit code %d", name, message, code)
		}
	}
}

func TestCloudsFile(t *testing.T) {
	file := t.TempDir() + "/clouds.yaml"
	writeFile(t, file, `
clouds:
  home:
    region_name: R
    auth: {auth_url: "http://cloud.test/identity/v3", username: u, password: pw, project_name: p}
`)
	s := newShell(newFakeAPI())
	s.vars = map[string]string{"OS_CLIENT_CONFIG_FILE": file}
	if out := s.must(t, "flavor", "list", "--os-cloud", "home", "-f", "value", "-c", "name"); out != "db.tiny\ndb.small\n" {
		t.Errorf("flavors: %q", out)
	}
	s.vars["OS_CLOUD"] = "away"
	if message, _ := cli.Explain(s.run(t, "flavor", "list")); message != file+` has no cloud "away".` {
		t.Errorf("error %q", message)
	}
	s.vars["OS_CLIENT_CONFIG_FILE"] = file + ".not"
	if message, _ := cli.Explain(s.run(t, "flavor", "list")); message != `No clouds.yaml was found that could have the cloud "away".` {
		t.Errorf("error %q", message)
	}
}
