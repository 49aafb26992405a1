package openstacktest

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

// Session logs the service's user in.
func (c *Cloud) Session(t testing.TB) *osclient.Session {
	t.Helper()
	s, err := osclient.New(t.Context(), osclient.Config{
		AuthURL: c.AuthURL(), Username: ServiceUser, Project: "service", Region: "RegionOne", Timeout: 20 * time.Second,
		Password: func() (trove.Secret, error) { return ServicePassword, nil }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// LabVariable is the environment variable that has tests use the OpenStack that the OS_ variables name, instead of being skipped.
const LabVariable = "TROVE_OPENSTACK_LAB"

// Lab logs in to a real OpenStack with the OS_ variables of the environment, or skips the test.
func Lab(t testing.TB) *osclient.Session {
	t.Helper()
	return labAs(t, os.Getenv("OS_USERNAME"), os.Getenv("OS_PASSWORD"), os.Getenv("OS_PROJECT_NAME"))
}

// LabTenant logs in as the user whom TROVE_OPENSTACK_LAB_TENANT names as user:password:project, or skips the test.
func LabTenant(t testing.TB) *osclient.Session {
	t.Helper()
	parts := strings.SplitN(os.Getenv(LabVariable+"_TENANT"), ":", 3)
	if len(parts) != 3 {
		t.Skipf("%s_TENANT names no user:password:project", LabVariable)
	}
	return labAs(t, parts[0], parts[1], parts[2])
}

func labAs(t testing.TB, user, password, project string) *osclient.Session {
	t.Helper()
	if os.Getenv(LabVariable) == "" {
		t.Skipf("%s is not set: there is no OpenStack to test with", LabVariable)
	}
	s, err := osclient.New(t.Context(), osclient.Config{
		AuthURL: os.Getenv("OS_AUTH_URL"), Username: user, Project: project, Region: os.Getenv("OS_REGION_NAME"), Interface: "public", Timeout: time.Minute,
		Password: func() (trove.Secret, error) { return trove.Secret(password), nil }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
