package csrcleaner

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	certs "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"skiff/controllers/loop"
)

func TestCleanPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		request := func(name, condition string, before time.Duration) *certs.PodCertificateRequest {
			r := &certs.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "u", CreationTimestamp: metav1.Time{Time: begin.Add(-before)}}}
			if condition != "" {
				r.Status.Conditions = []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue}}
			}
			return r
		}
		client := fake.NewClientset(request("pending", "", podAge), request("issued", "Issued", podAge), request("denied", "Denied", podAge),
			request("young", "", podAge-time.Second), request("new", "Issued", 0))
		factory := informers.NewSharedInformerFactory(client, 0)
		c, err := NewPods(Config{Parts: loop.Parts{Client: client, Informers: factory}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		factory.Start(ctx.Done())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		left := func(want ...string) {
			t.Helper()
			synctest.Wait()
			list, err := client.CertificatesV1().PodCertificateRequests("").List(ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range list.Items {
				got = append(got, list.Items[i].Name)
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		time.Sleep(time.Second)
		left("new", "young")
		time.Sleep(podPeriod + time.Second)
		left("new")
		time.Sleep(podAge)
		left()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		factory.Shutdown()
	})
}
