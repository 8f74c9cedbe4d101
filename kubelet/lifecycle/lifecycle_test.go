package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	internalapi "k8s.io/cri-api/pkg/apis"
)

// noisy is a runtime whose commands print without end and fail.
type noisy struct{ internalapi.RuntimeService }

func (noisy) ExecSync(context.Context, string, []string, time.Duration) (stdout, stderr []byte, err error) {
	return bytes.Repeat([]byte("out"), 1<<20), bytes.Repeat([]byte{0xff}, 1<<20), errors.New("exit 5")
}

// What a hook prints goes into a pod's status: it is bounded, and text.
func TestExecHookThatPrintsMuch(t *testing.T) {
	r := Runner{Runtime: noisy{}}
	err := r.Run(t.Context(), &v1.Pod{}, &v1.Container{Name: "c"}, "id", "", &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"x"}}})
	if err == nil || len(err.Error()) > maxReply+1<<10 || !strings.Contains(err.Error(), `failed - error: exit 5, message: "outout`) {
		t.Errorf("error %.200v, want the beginning of what the hook has printed", err)
	}
}

// An HTTP hook that answers without end is done when enough of it was read, and
// one that does not answer ends with its time.
func TestHTTPHookOfHostileServer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/silent" {
			<-r.Context().Done()
			return
		}
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	host, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	run := func(path string, limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		hook := &v1.LifecycleHandler{HTTPGet: &v1.HTTPGetAction{Path: path, Port: intstr.Parse(port)}}
		return (&Runner{}).Run(ctx, &v1.Pod{}, &v1.Container{Name: "c"}, "id", host, hook)
	}
	if err := run("/endless", time.Minute); err != nil {
		t.Error(err)
	}
	if err := run("/silent", 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want that of the time", err)
	}
}
