package logging

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
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

// TestLibraries lets a client log all that it would, and looks for what nobody may
// read.
func TestLibraries(t *testing.T) {
	const token, secret = "token-of-a-client", "c2VjcmV0LW9mLWEtc2VydmVy"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"s"},"data":{"k":%q}}`, secret)
	}))
	defer server.Close()
	was := slog.Default()
	defer func() {
		slog.SetDefault(was)
		klog.ClearLogger()
		var f flag.FlagSet
		klog.InitFlags(&f)
		if err := f.Set("v", "0"); err != nil {
			t.Error(err)
		}
	}()
	for _, tc := range []struct {
		verbosity int
		request   bool
	}{{0, false}, {4, false}, {6, true}, {8, true}, {10, true}, {100, true}} {
		t.Run(strconv.Itoa(tc.verbosity), func(t *testing.T) {
			var b bytes.Buffer
			if err := Set(&b, "text", tc.verbosity); err != nil {
				t.Fatal(err)
			}
			c, err := clientset.NewForConfig(&rest.Config{Host: server.URL, BearerToken: token})
			if err != nil {
				t.Fatal(err)
			}
			s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"sent": []byte(token)}}
			if _, err := c.CoreV1().Secrets("ns").Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			log := b.String()
			if got := strings.Contains(log, server.URL+"/api/v1/namespaces/ns/secrets"); got != tc.request {
				t.Errorf("the request is logged: %v, want %v:\n%s", got, tc.request, log)
			}
			for _, hidden := range []string{token, base64.StdEncoding.EncodeToString([]byte(token)), secret} {
				if strings.Contains(log, hidden) {
					t.Errorf("the log has %s:\n%s", hidden, log)
				}
			}
		})
	}
}
