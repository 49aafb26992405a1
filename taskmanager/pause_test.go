package taskmanager

import (
	"testing"
	"time"
)

func TestLooksAtACloudAreFewAndNotLate(t *testing.T) {
	const first = 500 * time.Millisecond
	for _, long := range []time.Duration{time.Second, 6 * time.Second, 30 * time.Second, 5 * time.Minute, 30 * time.Minute} {
		var waited, pause time.Duration
		looks := 0
		for waited < long {
			pause = patientPause(first, looks)
			waited += pause
			looks++
		}
		if late := first + long/4; waited-long > late {
			t.Errorf("what takes %s is noticed %s late", long, waited-long)
		}
		if pause > 15*time.Second {
			t.Errorf("after %s the pause is %s", long, pause)
		}
		if most := 10 + int(long/(10*time.Second)); looks > most {
			t.Errorf("what takes %s is looked at %d times, more than %d", long, looks, most)
		}
	}
}
