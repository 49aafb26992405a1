package openapi

import (
	"fmt"
	"strings"

	"github.com/trove-dbaas/trove/api"
)

const preface = `# REST API

<!-- Code generated from the operation table by go generate ./api; DO NOT EDIT. -->

All operations of this release. The wire format is that of OpenStack Trove v1.0; operations marked *extension* are ours. The machine-readable
description is [api/openapi.yaml](../api/openapi.yaml), and the bodies of requests are in [api/schemas](../api/schemas). Paths begin
with ` + "`/v1.0/{project}`" + `; every call carries ` + "`X-Auth-Token`" + `, and the token's project must be the one in the path. Without a token there are
` + "`GET /`, `GET /v1.0/`, `GET /v1.0/openapi.json`, `GET /v1.0/docs` and `GET /healthcheck`" + `.

- An error's body has one key, the fault's name: ` + "`{\"itemNotFound\": {\"code\": 404, \"message\": \"...\"}}`" + `.
- Every answer has ` + "`X-Openstack-Request-Id`" + `; one that is sent along (` + "`req-<uuid>`" + `) is taken over. The logs of all components show it.
- A call that begins long work names its operation in ` + "`X-Trove-Operation`" + `. ` + "`GET .../operations/{operation}?wait=30s&since=N`" + ` answers as soon as
  the operation's ` + "`version`" + ` is above N or it has ended.
- Lists are cut into pages: ` + "`links`" + ` holds the next page if there is one.
- A call that makes something takes ` + "`Idempotency-Key`" + `: the same key with the same request gives the same answer for a day and makes one thing.
  ` + "[docs/operators/listeners.md](operators/listeners.md)" + ` says what holds in a crash.
- Bodies are at most 1 MiB, unless configured otherwise. Calls are limited per project and minute; past the limit the answer is 413 with ` + "`Retry-After`" + `.
- Where the answers differ from those of OpenStack Trove on purpose is listed, with the reasons, in
  [api/testdata/golden/differences.json](../api/testdata/golden/differences.json).
`

// Markdown returns the page for people.
func Markdown() []byte {
	var b strings.Builder
	b.WriteString(preface)
	group := ""
	for _, op := range api.Operations() {
		if op.Group != group {
			group = op.Group
			fmt.Fprintf(&b, "\n## %s\n\n| call | answer | policy rule | |\n| --- | --- | --- | --- |\n", group)
		}
		var query []string
		for _, q := range op.Query {
			query = append(query, q.Name)
		}
		path := op.Path
		if len(query) > 0 {
			path += "?" + strings.Join(query, "&")
		}
		rule := op.PolicyRule()
		if rule != "" {
			rule = "`" + rule + "`"
		}
		summary := op.Summary
		if op.Extension {
			summary += " *Extension.*"
		}
		if op.Schema != "" {
			summary += fmt.Sprintf(" Body: [%s](../api/schemas/%s).", strings.TrimSuffix(op.Schema, ".json"), op.Schema)
		}
		fmt.Fprintf(&b, "| `%s %s` | %d | %s | %s |\n", op.Method, path, op.Success, rule, summary)
	}
	return []byte(b.String())
}
