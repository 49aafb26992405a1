package osclient

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/trove-dbaas/trove/internal/clock"
)

// attempts is how often a request is made at most. Whoever asked tries again later, over longer times: this is for what passes in a moment.
const attempts = 3

// firstPause comes before the second attempt; each further one is twice as long. longestPause bounds what a service may ask for.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 5 * time.Second
)

// retry is gophercloud's hook for requests that failed: nil has it made again, after a pause, else the error goes to the caller, in our words.
func (s *Session) retry(ctx context.Context, method, url string, options *gophercloud.RequestOpts, err error, failed uint) error {
	told := s.told(ctx, method, url, options.MoreHeaders[serviceHeader], err)
	if failed >= attempts || options.RawBody != nil || !again(method, err) {
		return told
	}
	if clock.Sleep(ctx, pause(err, failed)) != nil {
		return told
	}
	return nil
}

// again reports whether a request may be made once more: what failed will pass, and nothing can have been done, or what was done can be done again.
func again(method string, err error) bool {
	if answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		switch answer.Actual {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			// Both are said before anything was begun: by a limit of rates, or a proxy that has no server. A service that is full says 503 as well.
			return true
		case http.StatusBadGateway, http.StatusGatewayTimeout:
			return reads(method)
		}
		return false
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var there *net.OpError
	if errors.As(err, &there) && there.Op == "dial" {
		return true
	}
	return reads(method)
}

func reads(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// pause returns how long to wait: what the service asks for, or twice as long each time.
func pause(err error, failed uint) time.Duration {
	if answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		if s, err := strconv.Atoi(answer.ResponseHeader.Get("Retry-After")); err == nil && s >= 0 {
			return min(time.Duration(s)*time.Second, longestPause)
		}
	}
	return min(firstPause<<(failed-1), longestPause)
}
