// Package figures says what the control plane itself knows of an instance, as metrics. What the database says of itself comes from its guest.
package figures

import (
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
)

// prefix begins the names of the control plane's own families, which no guest may use.
const prefix = "trove_"

// IsOwn reports whether a name is the control plane's.
func IsOwn(name string) bool { return strings.HasPrefix(name, prefix) }

// Measurable reports whether the instance's database can be asked for its figures.
func Measurable(i *trove.Instance, now time.Time) bool {
	return !i.Stopped() && !i.Silent(now) && i.Guest.Service.Answering()
}

// Own returns what is known of an instance. scraped says that its database told its figures, and left how many of them were too many.
func Own(i *trove.Instance, v *trove.DatastoreVersion, now time.Time, scraped bool, left int) []guestapi.MetricFamily {
	alarm := map[trove.StorageAlarm]float64{trove.StorageHigh: 1, trove.StorageFull: 2}[i.Storage.Alarm]
	all := []guestapi.MetricFamily{
		gauge("trove_instance_info", "What the instance is; always 1.", 1, "name", i.Name, "datastore", v.DatastoreName, "version", v.Name, "flavor", i.FlavorID),
		gauge("trove_instance_up", "Whether the database answers, as its guest reported last.", truth(Measurable(i, now))),
		gauge("trove_instance_scrape_success", "Whether the database told its own figures for this answer.", truth(scraped)),
		gauge("trove_instance_scrape_left_out", "Series that were left out because there were too many.", float64(left)),
	}
	if !i.Guest.SeenAt.IsZero() {
		all = append(all, gauge("trove_instance_guest_seen_timestamp_seconds", "When the guest was heard of last.", float64(i.Guest.SeenAt.UnixMilli())/1000))
	}
	if i.VolumeSize == 0 {
		return all
	}
	all = append(all,
		gauge("trove_instance_volume_size_bytes", "Size of the data volume as it was asked for.", float64(i.VolumeSize)*(1<<30)),
		gauge("trove_instance_storage_alarm", "Alarm of the data volume: 0 none, 1 high, 2 full.", alarm))
	if i.Guest.VolumeTotal > 0 {
		all = append(all,
			gauge("trove_instance_volume_used_bytes", "Bytes in use on the data volume, of the last heartbeat.", float64(i.Guest.VolumeUsed)),
			gauge("trove_instance_volume_total_bytes", "Bytes of the file system on the data volume, of the last heartbeat.", float64(i.Guest.VolumeTotal)))
	}
	return all
}

func gauge(name, help string, value float64, labels ...string) guestapi.MetricFamily {
	s := guestapi.MetricSeries{Value: value}
	if len(labels) > 0 {
		s.Labels = map[string]string{}
	}
	for n := 0; n+1 < len(labels); n += 2 {
		s.Labels[labels[n]] = labels[n+1]
	}
	return guestapi.MetricFamily{Name: name, Help: help, Series: []guestapi.MetricSeries{s}}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
