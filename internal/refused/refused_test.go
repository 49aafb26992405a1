package refused_test

import (
	"net/http"
	"strconv"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/refused"
)

func TestError(t *testing.T) {
	for name, tt := range map[string]struct {
		status    int
		body      string
		kind      trove.Kind
		permanent bool
		message   string
	}{
		"with a message":      {http.StatusForbidden, `{"message": "The key is not accepted."}`, trove.KindForbidden, true, "The key is not accepted."},
		"used already":        {http.StatusConflict, `{"message": "The token was used already."}`, trove.KindConflict, true, "The token was used already."},
		"too large":           {http.StatusRequestEntityTooLarge, `{"message": "Too much."}`, trove.KindOverLimit, true, "Too much."},
		"a proxy's page":      {http.StatusBadGateway, `<html>`, trove.KindUnavailable, false, "The gateway answered 502 Bad Gateway."},
		"an empty message":    {http.StatusNotFound, `{}`, trove.KindNotFound, true, "The gateway answered 404 Not Found."},
		"too many requests":   {http.StatusTooManyRequests, `{"message": "Later."}`, trove.KindUnavailable, false, "Later."},
		"a message of a list": {http.StatusUnauthorized, `{"message": ["a"]}`, trove.KindUnauthorized, true, "The gateway answered 401 Unauthorized."},
	} {
		resp := &http.Response{StatusCode: tt.status, Status: strconv.Itoa(tt.status) + " " + http.StatusText(tt.status)}
		err := refused.Error("The gateway", resp, []byte(tt.body))
		if trove.KindOf(err) != tt.kind || trove.IsPermanent(err) != tt.permanent || trove.MessageOf(err) != tt.message {
			t.Errorf("%s: %v (kind %v, permanent %t), want %q (kind %v, permanent %t)", name, err, trove.KindOf(err), trove.IsPermanent(err), tt.message, tt.kind, tt.permanent)
		}
	}
}
