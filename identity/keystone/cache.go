package keystone

import (
	"container/list"
	"time"
)

// cache keeps the entries that were used last, each until its time. Its user holds a lock.
type cache[V any] struct {
	size  int
	byKey map[key]*list.Element
	used  *list.List // of *entry[V], the last one used in front
}

type entry[V any] struct {
	key   key
	value V
	until time.Time
}

func newCache[V any](size int) *cache[V] {
	return &cache[V]{size: size, byKey: map[key]*list.Element{}, used: list.New()}
}

func (c *cache[V]) get(k key, now time.Time) (value V, ok bool) {
	e := c.byKey[k]
	if e == nil {
		return value, false
	}
	found, _ := e.Value.(*entry[V])
	if !now.Before(found.until) {
		c.remove(e)
		return value, false
	}
	c.used.MoveToFront(e)
	return found.value, true
}

func (c *cache[V]) put(k key, value V, until time.Time) {
	if e := c.byKey[k]; e != nil {
		c.remove(e)
	}
	if len(c.byKey) >= c.size {
		c.remove(c.used.Back())
	}
	c.byKey[k] = c.used.PushFront(&entry[V]{k, value, until})
}

func (c *cache[V]) remove(e *list.Element) {
	old, _ := c.used.Remove(e).(*entry[V])
	delete(c.byKey, old.key)
}
