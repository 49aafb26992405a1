package local_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/cloud/local"
)

func TestProbe(t *testing.T) {
	d := deploy(t)
	before := everything(t)
	if err := local.Probe(t.Context(), d.config); err != nil {
		t.Fatal(err)
	}
	if left := leftOver(t, before); len(left) > 0 {
		t.Errorf("the probe left %q", left)
	}
	if left, err := filepath.Glob(filepath.Join(d.config.State, "probe-*")); err != nil || len(left) != 0 {
		t.Errorf("the probe left %v, %v", left, err)
	}
}

func TestProbeNamesWhatIsMissing(t *testing.T) {
	d := deploy(t)
	before := everything(t)
	t.Run("programs", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		err := local.Probe(t.Context(), d.config)
		for _, want := range []string{"runc is not installed: apt-get install runc", "mkfs.xfs is not installed: apt-get install xfsprogs"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want the sentence %q", err, want)
			}
		}
	})
	t.Run("mapped ids", func(t *testing.T) {
		config := d.config
		config.Images = "/sys/kernel" // sysfs has no idmapped mounts
		err := local.Probe(t.Context(), config)
		if err == nil || !strings.Contains(err.Error(), "instances cannot have user ids of their own over /sys/kernel") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a runtime that does not work", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "runc"), []byte("#!/bin/sh\nexit 7\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		err := local.Probe(t.Context(), d.config)
		if err == nil || !strings.Contains(err.Error(), "no sandbox can be run") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := local.Probe(ctx, d.config); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
	if left := leftOver(t, before); len(left) > 0 {
		t.Errorf("failed probes left %q", left)
	}
}
