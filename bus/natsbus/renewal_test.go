package natsbus_test

import (
	"testing"
	"time"

	"github.com/trove-dbaas/trove/bus/natsbus"
)

// TestAGuestWithAWrongClock decides when a guest renews by itself, with a clock that is a week off in either direction.
func TestAGuestWithAWrongClock(t *testing.T) {
	const day, week = 24 * time.Hour, 7 * 24 * time.Hour
	issued := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		got  time.Time // when the credential came, by the guest's clock; zero: before this start of the guest
		now  time.Time // by the guest's clock
		want time.Duration
	}{
		"right":                            {issued, issued, 18 * time.Hour},
		"right, a little late":             {issued.Add(30 * time.Second), issued.Add(time.Hour), 17 * time.Hour},
		"a week ahead":                     {issued.Add(week), issued.Add(week + time.Hour), 17 * time.Hour},
		"a week behind":                    {issued.Add(-week), issued.Add(time.Hour - week), 17 * time.Hour},
		"asleep for a week":                {issued, issued.Add(week), 18*time.Hour - week},
		"started anew, right":              {time.Time{}, issued.Add(time.Hour), 17 * time.Hour},
		"started anew after a week":        {time.Time{}, issued.Add(week), 18*time.Hour - week},
		"set back by a week since it came": {issued, issued.Add(-week), 18*time.Hour + week}, // the broker's refusal tells then
	} {
		skew := time.Duration(0)
		if !tt.got.IsZero() {
			skew = natsbus.ClockSkew(tt.got, issued)
		}
		if got := natsbus.DueIn(issued, issued.Add(day), tt.now, skew); got != tt.want {
			t.Errorf("%s: renews in %s, want %s", name, got, tt.want)
		}
	}
}

// TestCertificatesAreCheckedAgainstATimeThatHasCome has a machine whose clock is behind what the controller said last.
func TestCertificatesAreCheckedAgainstATimeThatHasCome(t *testing.T) {
	ahead := time.Now().Add(7 * 24 * time.Hour)
	if got := natsbus.CertificateTime(ahead); !got.Equal(ahead) {
		t.Errorf("checked against %s, want the time of the newest credential", got)
	}
	if got := natsbus.CertificateTime(time.Time{}); time.Since(got).Abs() > time.Minute {
		t.Errorf("checked against %s, want now", got)
	}
}
