package machinedata_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

const (
	instance = "0f1d4a52-6b0f-4b0e-9d0a-2c7a54c8d111"
	volume   = "7c1b1f0e-77a1-4b77-8b5b-6f9a8f3f0a01"
	previous = "9a2b1f0e-77a1-4b77-8b5b-6f9a8f3f0a02"
	token    = "a-token-nobody-may-read"
)

func good() machinedata.Data {
	return machinedata.Data{
		Trove: machinedata.Version, DataVolume: volume, PreviousVolume: previous, IsolateManagement: true,
		Boot: bus.BootData{Instance: instance, Engine: "mariadb", Token: token, EnrolURLs: []string{"https://10.77.0.1:4223/v1"}, CABundle: "-----BEGIN CERTIFICATE-----\n"},
		Interfaces: []machinedata.Interface{
			{
				MAC: "fa:16:3e:00:00:01", Role: machinedata.RoleManagement, Addresses: []string{"10.77.0.23/24"}, MTU: 1500,
				Routes: []machinedata.Route{{To: "10.9.0.0/24", Via: "10.77.0.1"}},
			},
			{
				MAC: "fa:16:3e:00:00:02", Role: machinedata.RoleUser, Addresses: []string{"10.1.0.9/24", "fd00::9/64"}, Gateway: "10.1.0.1", Gateway6: "fd00::1", MTU: 1450,
				Nameservers: []string{"10.1.0.2"},
			},
		},
	}
}

func TestEncodeAndParse(t *testing.T) {
	want := good()
	data, err := machinedata.Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := machinedata.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parsed (-want +got):\n%s", diff)
	}
	if s := machinedata.Serial(volume); s != "7c1b1f0e-77a1-4b77-8" {
		t.Errorf("serial = %q", s)
	}
}

func TestWhatIsRefusedNamesTheField(t *testing.T) {
	for want, change := range map[string]func(*machinedata.Data){
		"boot.instance":              func(d *machinedata.Data) { d.Boot.Instance = "../x" },
		"boot.engine":                func(d *machinedata.Data) { d.Boot.Engine = "x y" },
		"boot.token":                 func(d *machinedata.Data) { d.Boot.Token = "" },
		"boot.enrol_urls:":           func(d *machinedata.Data) { d.Boot.EnrolURLs = nil },
		"boot.enrol_urls[0]":         func(d *machinedata.Data) { d.Boot.EnrolURLs = []string{"http://x"} },
		"boot.ca_bundle":             func(d *machinedata.Data) { d.Boot.CABundle = "" },
		"data_volume":                func(d *machinedata.Data) { d.DataVolume = "vdb" },
		"previous_volume":            func(d *machinedata.Data) { d.PreviousVolume = volume },
		"interfaces: there must be":  func(d *machinedata.Data) { d.Interfaces = nil },
		"0 have the role management": func(d *machinedata.Data) { d.Interfaces = d.Interfaces[1:] },
		"2 have the role management": func(d *machinedata.Data) {
			d.Interfaces[1].Role, d.Interfaces[1].Gateway, d.Interfaces[1].Gateway6 = "management", "", ""
		},
		"interfaces[1].mac: another":    func(d *machinedata.Data) { d.Interfaces[1].MAC = d.Interfaces[0].MAC },
		"interfaces[0].mac: it is no":   func(d *machinedata.Data) { d.Interfaces[0].MAC = "FA:16:3e:00:00:01" },
		"interfaces[0].role":            func(d *machinedata.Data) { d.Interfaces[0].Role = "tenant" },
		"interfaces[0].gateway":         func(d *machinedata.Data) { d.Interfaces[0].Gateway = "10.77.0.1" },
		"interfaces[0].addresses:":      func(d *machinedata.Data) { d.Interfaces[0].Addresses = nil },
		"interfaces[0].addresses[0]":    func(d *machinedata.Data) { d.Interfaces[0].Addresses = []string{"127.0.0.1/8"} },
		"interfaces[0].mtu":             func(d *machinedata.Data) { d.Interfaces[0].MTU = 70 },
		"interfaces[0].routes[0].to: a": func(d *machinedata.Data) { d.Interfaces[0].Routes[0].To = "0.0.0.0/0" },
		"interfaces[0].routes[0].to: i": func(d *machinedata.Data) { d.Interfaces[0].Routes[0].To = "10.9.0.1/24" },
		"interfaces[0].routes[0].via":   func(d *machinedata.Data) { d.Interfaces[0].Routes[0].Via = "fe80::1" },
		"interfaces[1].gateway":         func(d *machinedata.Data) { d.Interfaces[1].Gateway = "10.2.0" },
		"interfaces[1].gateway: it is": func(d *machinedata.Data) {
			d.Interfaces[1].Gateway, d.Interfaces[1].Addresses = "fe80::1", []string{"10.1.0.9/24"}
		},
		"interfaces[1].gateway6: there is no g":       func(d *machinedata.Data) { d.Interfaces[1].Gateway = "" },
		"interfaces[1].gateway6: there is no gateway": func(d *machinedata.Data) { d.Interfaces[1].Gateway = "fd00::2" },
		"interfaces[1].gateway6":                      func(d *machinedata.Data) { d.Interfaces[1].Gateway6 = "10.1.0.2" },
		"interfaces[1].gateway6: it is no":            func(d *machinedata.Data) { d.Interfaces[1].Addresses = d.Interfaces[1].Addresses[:1] },
		"interfaces: more than one has a gateway of the same family": func(d *machinedata.Data) {
			d.Interfaces = append(d.Interfaces, machinedata.Interface{MAC: "fa:16:3e:00:00:03", Role: "user", Addresses: []string{"fd01::9/64"}, Gateway: "fd01::1"})
		},
		"interfaces[1].nameservers[0]":  func(d *machinedata.Data) { d.Interfaces[1].Nameservers = []string{"dns; reboot"} },
		"interfaces[1].nameservers: th": func(d *machinedata.Data) { d.Interfaces[1].Nameservers = make([]string, 4) },
	} {
		d := good()
		change(&d)
		if _, err := machinedata.Encode(d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Encode = %v, want %q in it", err, want)
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		_, err = machinedata.Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), token) {
			t.Errorf("Parse = %v, want %q in it", err, want)
		}
	}
}

func TestWhatIsNoMachineData(t *testing.T) {
	data, err := machinedata.Encode(good())
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for input, want := range map[string]string{
		"":                "no JSON at byte",
		"#cloud-config\n": "no JSON at byte",
		`{"trove": 2}`:    "the format is 2, this guest reads 1",
		`{}`:              "the format is 0",
		`{"trove": "1"}`:  "trove: it is a string",
		text + "x":        "no JSON at byte",
		text + strings.Repeat(" ", machinedata.MaxBytes):                             "more than 16384",
		strings.Replace(text, `"isolate_management"`, `"secret":"x","isolate"`, 1):   `no field "secret"`,
		strings.Replace(text, `"token":"`+token+`"`, `"token":{"a":"`+token+`"}`, 1): "boot.token: it is a object",
	} {
		_, err := machinedata.Parse([]byte(input))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), token) {
			t.Errorf("Parse(%.40q) = %v, want %q in it", input, err, want)
		}
	}
}

func TestMetaData(t *testing.T) {
	for input, want := range map[string]machinedata.MetaData{
		`{"uuid":"u","hostname":"Trove-0f1d4a52.novalocal","keys":[]}`: {UUID: "u", Hostname: "trove-0f1d4a52"},
		`{"uuid":"u","hostname":"a b"}`:                                {UUID: "u"},
		`{}`:                                                           {},
	} {
		if got, err := machinedata.ParseMetaData([]byte(input)); err != nil || got != want {
			t.Errorf("ParseMetaData(%s) = %+v, %v", input, got, err)
		}
	}
	for _, input := range []string{"", "[]", strings.Repeat(" ", machinedata.MaxMetaData+1)} {
		if _, err := machinedata.ParseMetaData([]byte(input)); err == nil {
			t.Errorf("ParseMetaData(%.20q) was accepted", input)
		}
	}
}

func FuzzParse(f *testing.F) {
	data, err := machinedata.Encode(good())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"trove":1,"interfaces":[{}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := machinedata.Parse(in)
		if err != nil {
			return
		}
		again, err := machinedata.Encode(d)
		if err != nil {
			if strings.Contains(err.Error(), "bytes, more than") { // escapes may make it longer
				return
			}
			t.Fatalf("what was read cannot be written: %v", err)
		}
		back, err := machinedata.Parse(again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		third, err := machinedata.Encode(back)
		if err != nil || string(third) != string(again) {
			t.Fatalf("it is another thing after a way there and back: %v", err)
		}
	})
}
