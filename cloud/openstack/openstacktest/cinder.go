package openstacktest

import (
	"fmt"
	"net/http"
)

func (c *Cloud) cinder() {
	at := "/volume/v3/{project}/"
	c.handle("GET "+at+"types", func(k *call) { k.list("types", "volume_types") })
	c.handle("GET "+at+"volumes", func(k *call) { k.list("volumes", "volumes", "id", "name", "links") })
	c.handle("GET "+at+"volumes/detail", func(k *call) { k.list("volumes", "volumes") })
	c.handle("GET "+at+"volumes/{id}", func(k *call) { k.one("volumes", "volume") })
	c.handle("GET "+at+"snapshots", func(k *call) { k.list("snapshots", "snapshots") })
	c.handle("GET "+at+"messages", func(k *call) {
		k.answer(http.StatusOK, Object{"messages": []Object{{"user_message": "schedule allocate volume: Could not find any available weighted backend.", "request_id": "req-cinder"}}})
	})
	c.handle("POST "+at+"volumes", (*call).makeVolume)
	c.handle("DELETE "+at+"volumes/{id}", func(k *call) {
		v := k.find("volumes")
		switch {
		case v == nil:
		case v["status"] != "available" && v["status"] != "error" && v["status"] != "error_extending":
			k.refuse(http.StatusBadRequest, "Invalid volume: Volume status must be available or error or error_extending, but it is %v.", v["status"])
		default:
			v["status"] = "deleting"
			k.later(v["id"].(string), v, func(v Object) { delete(k.all["volumes"], v["id"].(string)) })
			k.answer(http.StatusAccepted, nil)
		}
	})
	c.handle("PUT "+at+"volumes/{id}/metadata", func(k *call) {
		if v := k.find("volumes"); v != nil {
			v["metadata"] = k.body["metadata"]
			k.answer(http.StatusOK, Object{"metadata": v["metadata"]})
		}
	})
	c.handle("POST "+at+"volumes/{id}/action", (*call).volumeAction)
	c.handle("GET "+at+"attachments", func(k *call) {
		if k.r.Header.Get("OpenStack-API-Version") != "volume 3.27" {
			k.answer(http.StatusNotFound, nil)
			return
		}
		k.list("attachments", "attachments")
	})
	c.handle("DELETE "+at+"attachments/{id}", func(k *call) {
		if a := k.all["attachments"][k.r.PathValue("id")]; a != nil {
			k.all["volumes"][fmt.Sprint(a["volume_id"])]["status"] = "available"
			delete(k.all["attachments"], k.r.PathValue("id"))
		}
		for _, v := range k.all["volumes"] {
			for _, a := range v["attachments"].([]Object) {
				if a["attachment_id"] == k.r.PathValue("id") {
					v["status"], v["attachments"] = "available", []Object{}
				}
			}
		}
		k.answer(http.StatusOK, Object{"attachments": []Object{}})
	})
}

// gigabytes is what all volumes have together.
func (c *Cloud) gigabytes() int {
	sum := 0
	for _, v := range c.all["volumes"] {
		sum += int(v["size"].(float64))
	}
	return sum
}

func (k *call) full(more int) bool {
	if k.knobs.Gigabytes == 0 || k.gigabytes()+more <= k.knobs.Gigabytes {
		return false
	}
	k.refuse(http.StatusRequestEntityTooLarge, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested %dG, quota is %dG.",
		more, k.knobs.Gigabytes)
	return true
}

func (k *call) makeVolume() {
	want := k.body["volume"].(Object)
	if t := want["volume_type"]; t != nil {
		known := false
		for id, o := range k.all["types"] {
			known = known || id == t || o["name"] == t
		}
		if !known {
			k.refuse(http.StatusNotFound, "Volume type with name %v could not be found.", t)
			return
		}
	}
	if k.full(int(want["size"].(float64))) {
		return
	}
	id := newID()
	v := k.put("volumes", id, merged(want, Object{"status": "creating", "attachments": []Object{}, "encrypted": k.knobs.Encrypted}))
	broken := k.knobs.VolumeError
	k.later(id, v, func(v Object) {
		v["status"] = "available"
		if broken {
			v["status"] = "error"
		}
	})
	k.answer(http.StatusAccepted, Object{"volume": v})
}

func (k *call) volumeAction() {
	v := k.find("volumes")
	if v == nil {
		return
	}
	if reset, ok := k.body["os-reset_status"].(Object); ok {
		v["status"] = reset["status"]
		k.answer(http.StatusAccepted, nil)
		return
	}
	if _, ok := k.body["os-force_delete"]; ok {
		delete(k.all["volumes"], v["id"].(string))
		k.answer(http.StatusAccepted, nil)
		return
	}
	extend, ok := k.body["os-extend"].(Object)
	if !ok {
		k.refuse(http.StatusBadRequest, "There is no such action.")
		return
	}
	was, size := v["status"], extend["new_size"].(float64)
	online := k.r.Header.Get("OpenStack-API-Version") == "volume 3.42"
	switch {
	case was != "available" && (was != "in-use" || !online):
		k.refuse(http.StatusBadRequest, "Invalid volume: Volume %s status must be '{'status': 'available'}' to extend, currently %v.", v["id"], was)
	case k.full(int(size) - int(v["size"].(float64))):
	default:
		v["status"] = "extending"
		fails := k.knobs.NoExtend
		k.later(v["id"].(string), v, func(v Object) {
			if fails {
				v["status"] = "error_extending"
				return
			}
			v["size"], v["status"] = size, was
		})
		k.answer(http.StatusAccepted, nil)
	}
}
