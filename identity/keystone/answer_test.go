package keystone

import (
	"encoding/json"
	"testing"

	trove "github.com/trove-dbaas/trove"
)

// Whatever an answer says, either it names a user and an end, or it is an error that does not let anybody in.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"token":{"user":{"id":"u","name":"n","domain":{"id":"d"}},"expires_at":"2030-01-01T00:00:00.000000Z","roles":[{"name":"admin"}],"project":{"id":"p"}}}`,
		`{"token":{"user":{"id":"u"},"expires_at":"2030-01-01T00:00:00Z","system":{"all":true},"is_admin_project":false,"domain":{"id":"d"}}}`,
		`{"token":{"user":{"id":"u"},"expires_at":"2030-01-01T00:00:00Z","application_credential":{"access_rules":null}}}`,
		`{"token":null}`, `{}`, `[]`, `{"token":{"user":{"id":""},"expires_at":"x"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var a answer
		if json.Unmarshal(data, &a) != nil {
			return
		}
		c, err := a.caller()
		kind := trove.KindOf(err)
		if err == nil && (c.UserID == "" || c.Expires.IsZero() && a.Token.Expires[:4] != "0001") {
			t.Errorf("%q is taken for %+v", data, c)
		}
		if err != nil && (kind != trove.KindUnavailable && kind != trove.KindUnauthorized || c.UserID != "" || c.Roles != nil) {
			t.Errorf("%q: %+v and %v", data, c, err)
		}
	})
}
