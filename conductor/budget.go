package conductor

import "time"

// The budget of one guest: so many reports at once, and so many a second in the long run. An agent sends one in ten seconds, and a few when
// something happens.
const (
	burst     = 100
	perSecond = 5
)

// budgets holds what each guest may still say. It is checked before a payload is looked at, because a flood costs most in parsing.
type budgets struct {
	of    map[string]*budget
	swept time.Time
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
		b.of[instance] = &budget{left: burst - 1, at: now}
		return true
	}
	if d := now.Sub(g.at); d > 0 {
		g.left = min(burst, g.left+d.Seconds()*perSecond)
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
	const full = burst / perSecond * time.Second
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
