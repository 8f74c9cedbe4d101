package bootstrap

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// Who deletes all Services of the namespace default has the API's again soon.
func TestKubernetesServiceComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		c := Config{
			Client: client, Address: netip.MustParseAddr("192.0.2.1"), Port: 6443, Log: slog.New(slog.DiscardHandler),
			ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		}
		if err := kubernetesService(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		services := client.CoreV1().Services("default")
		if err := services.Delete(t.Context(), serviceName, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- keep(ctx, c) }()
		time.Sleep(renewEvery + time.Second)
		svc, err := services.Get(t.Context(), serviceName, metav1.GetOptions{})
		if err != nil {
			t.Error(err)
		} else if svc.Spec.ClusterIP != "10.96.0.1" {
			t.Errorf("its address is %s", svc.Spec.ClusterIP)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
