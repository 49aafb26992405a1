package bus

import (
	"fmt"
	"strings"
)

// CheckSubject refuses what no broker carries: empty tokens and white space; and, where wildcards is false, "*" and ">" as tokens. Drivers
// call it, so that all refuse the same.
func CheckSubject(subject string, wildcards bool) error {
	last := strings.Count(subject, ".")
	for i, token := range strings.Split(subject, ".") {
		switch {
		case token == "", strings.ContainsAny(token, " \t\r\n\x00"):
			return fmt.Errorf("subject %q is not valid", subject)
		case !wildcards && (token == "*" || token == ">"), token == ">" && i != last:
			return fmt.Errorf("subject %q has a wildcard where none may be", subject)
		}
	}
	return nil
}
