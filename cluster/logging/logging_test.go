package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	h, err := Handler(&b, "json", 4)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(h)
	before := float64(time.Now().Add(-time.Second).UnixMilli())
	log.Info("started", "port", 1, slog.Group("level", "level", "x"))
	log.Debug("more")
	log.Error("broken", "err", errors.New("no"))
	var got []map[string]any
	for line := range strings.Lines(b.String()) {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if ts, ok := m["ts"].(float64); !ok || ts < before {
			t.Errorf("ts is %v", m["ts"])
		}
		delete(m, "ts")
		got = append(got, m)
	}
	want := []map[string]any{
		{"v": 0.0, "msg": "started", "port": 1.0, "level": map[string]any{"level": "x"}},
		{"v": 4.0, "msg": "more"},
		{"level": "ERROR", "msg": "broken", "err": "no"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestVerbosity(t *testing.T) {
	for v, want := range map[int]bool{0: false, 3: false, 4: true, 10: true} {
		h, err := Handler(&bytes.Buffer{}, "text", v)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.Enabled(t.Context(), slog.LevelDebug); got != want {
			t.Errorf("at %d debugging is %v", v, got)
		}
	}
	if _, err := Handler(&bytes.Buffer{}, "xml", 0); err == nil || !strings.Contains(err.Error(), `"xml"`) {
		t.Errorf("got %v", err)
	}
}
