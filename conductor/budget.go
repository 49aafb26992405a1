package conductor

import "time"

// The budget of one guest: so many reports at once, and so many a second in the long run. An agent sends one in ten seconds, and a few when
// something happens.
const (
	defaultBurst     = 100
	defaultPerSecond = 5
)

// budgets holds what each guest may still say. It is checked before a payload is looked at, because a flood costs most in parsing.
type budgets struct {
	burst, perSecond float64
	of               map[string]*budget
	swept            time.Time
}

func newBudgets(burst, perSecond int) budgets {
	if burst == 0 {
		burst = defaultBurst
	}
	if perSecond == 0 {
		perSecond = defaultPerSecond
	}
	return budgets{burst: float64(burst), perSecond: float64(perSecond), of: map[string]*budget{}}
}

type budget struct {
	left float64
	at   time.Time
}

// take reports whether the guest may say something more now.
func (b *budgets) take(instance string, now time.Time) bool {
	b.sweep(now)
	g, ok := b.of[instance]
	if !ok {
		b.of[instance] = &budget{left: b.burst - 1, at: now}
		return true
	}
	if d := now.Sub(g.at); d > 0 {
		g.left = min(b.burst, g.left+d.Seconds()*b.perSecond)
		g.at = now
	}
	if g.left < 1 {
		return false
	}
	g.left--
	return true
}

// sweep drops the budgets that are full again: a guest without one has a full one.
func (b *budgets) sweep(now time.Time) {
	full := time.Duration(b.burst / b.perSecond * float64(time.Second))
	if now.Sub(b.swept) < full {
		return
	}
	b.swept = now
	for id, g := range b.of {
		if now.Sub(g.at) >= full {
			delete(b.of, id)
		}
	}
}
