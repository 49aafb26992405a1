package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Mark is an amount of free space: a share of the file system, or bytes. The zero value stands for a default.
type Mark struct {
	Percent float64
	Bytes   int64
}

// ParseMark reads "10%" or "20GiB"; "" is the zero value.
func ParseMark(text string) (Mark, error) {
	number, percent := strings.CutSuffix(text, "%")
	if !percent {
		number = strings.TrimSuffix(text, "GiB")
	}
	if text == "" {
		return Mark{}, nil
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	switch {
	case err != nil, n < 0, percent && n >= 100, !percent && n > 1<<20, math.IsNaN(n), !percent && !strings.HasSuffix(text, "GiB"):
		return Mark{}, fmt.Errorf("%q is neither a share of the file system such as 10%% nor a size such as 20GiB", text)
	case percent:
		return Mark{Percent: n}, nil
	}
	return Mark{Bytes: int64(n * float64(gib))}, nil
}

func (m Mark) of(total int64, otherwise int64) int64 {
	if m == (Mark{}) {
		return otherwise
	}
	return m.Bytes + int64(m.Percent/100*float64(total))
}

// Pool is the space for data volumes as it is now, in bytes. It is measured anew each time: from the volumes' records, which are written before a volume
// is made or grown and removed after it is gone, from the blocks that their files have, and from the file system, which others use too.
type Pool struct {
	Size     int64 // that volumes may have together, before overcommit
	Promised int64 // to volumes, those that are being made, grown or removed included
	Used     int64 // blocks that the volumes' files have, also those that are reserved and not written yet
	Pending  int64 // promised, to be reserved, and not taken from the file system yet
	Spares   int64 // blocks of the copies that are kept ready for new volumes
	Left     int64 // that can still be promised
	Total    int64 // of the file system
	Free     int64 // of the file system
	StopMark int64 // free space below which nothing is made or grown
	WarnMark int64 // what is left below which a warning is due

	Volumes    int
	Overcommit float64
	Reserved   bool // volumes take their space when they are made
}

// Limit is how much may be promised.
func (p Pool) Limit() int64 { return int64(float64(p.Size) * p.Overcommit) }

// Low reports whether less is left than the warning mark.
func (p Pool) Low() bool { return p.Left < p.WarnMark }

// Pool measures the pool.
func (p *Provider) Pool() (Pool, error) { return p.measurePool("") }

// measurePool measures the pool as the volume of an instance finds it: beside all others. "": all volumes.
func (p *Provider) measurePool(without string) (Pool, error) {
	pool := Pool{Overcommit: p.overcommit(), Reserved: p.reserve()}
	ids, err := p.paths.instances()
	if err != nil {
		return Pool{}, err
	}
	own := int64(0)
	for _, id := range ids {
		promised, err := p.promised(id)
		if err != nil {
			return Pool{}, err
		}
		blocks := blocksOf(p.paths.image(id)) + blocksOf(p.paths.image(id)+".part")
		if promised > 0 {
			pool.Volumes++
		}
		if id == without {
			own = blocks
			continue
		}
		pool.Promised += promised
		pool.Used += blocks
		if pool.Reserved {
			pool.Pending += max(0, promised-blocks)
		}
	}
	if pool.Free, pool.Total, err = freeSpace(p.paths.files); err != nil {
		return Pool{}, err
	}
	pool.Spares = p.spareBlocks()
	pool.StopMark = p.config.StopMark.of(pool.Total, p.defaultStop(pool.Total))
	pool.Size = int64(p.config.PoolGiB) * gib
	if pool.Size == 0 {
		pool.Size = max(0, pool.Free-pool.StopMark) + pool.Used + own
	}
	pool.WarnMark = p.config.WarnMark.of(pool.Limit(), pool.Limit()/10)
	pool.Left = p.left(pool, own)
	return pool, nil
}

// left is the smaller of what the limit and what the file system leaves to a volume that has own blocks already.
func (p *Provider) left(pool Pool, own int64) int64 {
	left := pool.Limit() - pool.Promised
	if pool.Reserved {
		left = min(left, pool.Free+own-pool.Pending-pool.StopMark)
	} else if pool.Free < pool.StopMark {
		return 0
	}
	return max(0, left)
}

// MaxStop is the most that the default of StopMark keeps free with overcommit: a tenth of a large disk would refuse volumes for which there is ample space.
const MaxStop = 20 * gib

// defaultStop is, with overcommit, for what the volumes there are still may write: a tenth of the file system, at most MaxStop. Without, it is what the
// controller's own database needs.
func (p *Provider) defaultStop(total int64) int64 {
	if p.reserve() {
		return Headroom
	}
	return min(total/10, MaxStop)
}

// promised returns the size in a volume's record, 0 if there is none.
func (p *Provider) promised(id string) (int64, error) {
	r, err := readRecord[volumeRecord](p.paths.volumeRecord(id))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	return int64(r.SizeGiB) * gib, err
}

func (p *Provider) spareBlocks() int64 {
	all := int64(0)
	_ = filepath.WalkDir(p.paths.shelf(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all += blocksOf(path)
		}
		return nil // what cannot be seen is seen in the file system's own figures
	})
	return all
}

// blocksOf returns what a file takes from the file system, 0 if there is none.
func blocksOf(path string) int64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// book writes the volume's record if the pool has room for it beside all others.
func (p *Provider) book(ctx context.Context, id string, rec volumeRecord) error {
	unlock, err := p.paths.lock(ctx, "pool")
	if err != nil {
		return err
	}
	defer unlock(false)
	before, err := readRecord[volumeRecord](p.paths.volumeRecord(id))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err == nil && before == rec {
		return nil // booked before, by a call that was cut off
	}
	size := int64(rec.SizeGiB) * gib
	pool, err := p.measurePool(id)
	// Some file systems give back the blocks of a file that was removed a moment later.
	for n := 0; n < 5 && err == nil && size > pool.Left && size <= pool.Limit()-pool.Promised; n++ {
		if err := clock.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		pool, err = p.measurePool(id)
	}
	if err != nil {
		return err
	}
	p.watchPool(ctx, pool)
	if size > pool.Left {
		return pool.refuse(size, int64(before.SizeGiB)*gib)
	}
	return writeRecord(p.paths.volumeRecord(id), rec)
}

// refuse makes the sentence for a volume that has before bytes and shall have size.
func (p Pool) refuse(size, before int64) error {
	what := fmt.Sprintf("A volume of %s", inGiB(size))
	if before > 0 {
		what = fmt.Sprintf("A volume that grows from %s to %s", inGiB(before), inGiB(size))
	}
	why := fmt.Sprintf("of %s for volumes %s are promised", inGiB(p.Limit()), inGiB(p.Promised+before))
	switch {
	case !p.Reserved && p.Free < p.StopMark:
		why = fmt.Sprintf("its file system has %s of %s free, and the stop mark is %s", inGiB(p.Free), inGiB(p.Total), inGiB(p.StopMark))
	case p.Left < p.Limit()-p.Promised:
		why = fmt.Sprintf("its file system has %s free, of which %s are promised to other volumes and %s are kept", inGiB(p.Free), inGiB(p.Pending), inGiB(p.StopMark))
	}
	return trove.Permanent(trove.Errorf(trove.KindOverLimit,
		"%s cannot be had: the local cloud has %s left for it; %s. Ask the operator for more space, or delete what is not needed.", what, inGiB(p.Left), why))
}

// noSpace turns the file system's own refusal, which others on it can still cause after the booking, into a sentence.
func (p *Provider) noSpace(id string, size, before int64) error {
	pool, err := p.measurePool(id)
	if err != nil {
		return err
	}
	pool.Left = min(pool.Left, max(0, size-1))
	return pool.refuse(size, before)
}

// watchPool logs once when little is left, and once when that is over.
func (p *Provider) watchPool(ctx context.Context, pool Pool) {
	p.mu.Lock()
	was := p.poolLow
	p.poolLow = pool.Low()
	p.mu.Unlock()
	switch {
	case pool.Low() && !was:
		p.config.Log.WarnContext(ctx, "space for volumes is nearly used up", "left", inGiB(pool.Left), "limit", inGiB(pool.Limit()), "free", inGiB(pool.Free))
	case !pool.Low() && was:
		p.config.Log.InfoContext(ctx, "space for volumes is sufficient again", "left", inGiB(pool.Left), "limit", inGiB(pool.Limit()), "free", inGiB(pool.Free))
	}
}

// inGiB writes bytes with one digit after the point, if it is not a nought.
func inGiB(n int64) string {
	return strings.TrimSuffix(strconv.FormatFloat(math.Floor(float64(n)/float64(gib)*10)/10, 'f', 1, 64), ".0") + " GiB"
}
