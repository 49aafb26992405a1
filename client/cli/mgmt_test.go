package cli_test

import (
	"encoding/json"
	"net/http"

	"github.com/trove-dbaas/trove/api/wire"
)

// managed are the answers to administrators, and those about TLS.
func (f *fakeAPI) managed(get func(path string, body any)) {
	at, used, total := "/mgmt/instances/"+shopID, 1.5, 10.0
	created := wire.Time(epoch)
	one := wire.MgmtInstance{
		Instance: shop(), Volume: &wire.Volume{Size: 10}, Server: &wire.MgmtServer{ID: "m-1", Name: shopID, Status: "ACTIVE", TenantID: "p", Host: "h1"},
		ServiceStatus: "HEALTHY", TaskDescription: "No tasks for the instance.",
	}
	one.TenantID = "p"
	gone := wire.MgmtInstance{Instance: broken(), ServiceStatus: "DELETED", Deleted: true, DeletedAt: &created, TaskDescription: "Deleting the instance."}
	gone.TenantID = "q"
	get("/mgmt/instances", wire.MgmtInstanceList{Instances: []wire.MgmtInstance{one, gone}})
	one.Volume = &wire.MgmtVolume{
		Attachments: []wire.VolumeAttachment{}, ID: "v-1", Size: 10, Status: "in-use", Used: &used, Total: &total, CreatedAt: wire.PreciseTime(epoch),
	}
	one.RootEnabled, one.RootEnabledBy = &created, "u-7"
	get(at, wire.MgmtInstanceBody{Instance: one})
	get("/mgmt/instances/"+oldID, wire.MgmtInstanceBody{Instance: gone})
	get(at+"/root", wire.RootHistoryBody{RootHistory: wire.RootHistory{ID: shopID, Enabled: "2026-03-04T05:06:07", User: "u-7"}})
	get(at+"/hwinfo", wire.HardwareBody{HWInfo: wire.Hardware{MemTotal: 2 << 20, NumCPUs: 2}})
	get(at+"/diagnostics", wire.DiagnosticsBody{Diagnostics: wire.Diagnostics{Version: "1.2.0", Threads: 9, FDSize: 64, VMSize: 1300, VMPeak: 1400, VMRSS: 20, VMHWM: 30}})
	f.mux.HandleFunc("GET /v1.0/p"+at+"/rpc_ping", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	ssl := "/instances/" + shopID + "/ssl"
	f.mux.HandleFunc("GET /v1.0/p"+ssl, func(w http.ResponseWriter, r *http.Request) {
		s := wire.SSL{Status: "on", Mode: "enforced", Certificate: &wire.SSLCertificate{CN: "db.example", ExpireAt: created, SAN: []string{"db.example", "10.0.0.9"}}}
		if r.URL.Query().Get("include_certificate") == "true" {
			s.Certificate.Payload, s.Certificate.Authorities = "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\nauthority\n"
		}
		_ = json.NewEncoder(w).Encode(wire.SSLBody{SSL: s})
	})
	f.mux.HandleFunc("POST /v1.0/p"+ssl, func(w http.ResponseWriter, r *http.Request) {
		f.change(w, r, wire.SSLChangedBody{SSL: wire.SSLChanged{RestartRequired: true}})
	})
}
