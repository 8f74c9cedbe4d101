package events

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestShortened(t *testing.T) {
	for name, tc := range map[string]struct {
		message string
		size    int
	}{
		"short":                     {"fine", 4},
		"just fits":                 {strings.Repeat("x", 1024), 1024},
		"too long":                  {strings.Repeat("x", 1025), 1024},
		"cut between characters":    {"x" + strings.Repeat("é", 1000), 1024},
		"cut within a character":    {strings.Repeat("é", 1000), 1023},
		"no text at all":            {strings.Repeat("\x80", 2000), 1020},
		"cut within a longer one":   {strings.Repeat("𝄞", 1000), 1023},
		"cut within a longer one 2": {"xx" + strings.Repeat("𝄞", 1000), 1021},
	} {
		t.Run(name, func(t *testing.T) {
			got := shortened(tc.message)
			if len(got) != tc.size || utf8.ValidString(tc.message) && !utf8.ValidString(got) {
				t.Errorf("%d bytes, valid %t; want %d", len(got), utf8.ValidString(got), tc.size)
			}
		})
	}
}

// What happens again is counted; what an API server cannot take now is sent again, and
// what it refuses is not.
func TestSending(t *testing.T) {
	for name, tc := range map[string]struct {
		answers []error // to the first writes
		writes  int
		kept    bool
	}{
		"taken":        {nil, 1, true},
		"not now":      {[]error{apierrors.NewServiceUnavailable("full"), apierrors.NewTooManyRequests("later", 1)}, 3, true},
		"out of reach": {[]error{context.DeadlineExceeded}, 2, true},
		"refused":      {[]error{apierrors.NewForbidden(v1.Resource("events"), "e", nil)}, 1, false},
		"never taken":  {[]error{apierrors.NewServiceUnavailable("1"), apierrors.NewServiceUnavailable("2"), apierrors.NewServiceUnavailable("3"), apierrors.NewServiceUnavailable("4"), apierrors.NewServiceUnavailable("5")}, 5, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, writes := fake.NewClientset(), 0
				client.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
					writes++
					if writes <= len(tc.answers) {
						return true, nil, tc.answers[writes-1]
					}
					return false, nil, nil
				})
				r := New(client, "kubelet", "n1")
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- r.Run(ctx) }()
				pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u"}}
				r.Event(pod, v1.EventTypeNormal, "Started", "Container started")
				time.Sleep(time.Minute)
				synctest.Wait()
				if writes != tc.writes {
					t.Errorf("%d writes, want %d", writes, tc.writes)
				}
				if tc.kept {
					r.Event(pod, v1.EventTypeNormal, "Started", "Container started")
					synctest.Wait()
				}
				list, err := client.CoreV1().Events("ns").List(ctx, metav1.ListOptions{})
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case !tc.kept && len(list.Items) != 0:
					t.Errorf("%d events are there", len(list.Items))
				case tc.kept && (len(list.Items) != 1 || list.Items[0].Count != 2 || list.Items[0].Source.Host != "n1"):
					t.Errorf("want one event of the node n1, counted twice: %+v", list.Items)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
