package bootstrap

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
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

// The Service is there wherever the server is reached, and only addresses that
// pods reach are behind it.
func TestKubernetesServiceOfAnyAddress(t *testing.T) {
	for name, tc := range map[string]struct {
		address string
		want    []string
	}{
		"of the machine": {"192.0.2.1", []string{"192.0.2.1"}},
		"loopback":       {"127.0.0.1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset()
			c := Config{
				Client: client, Address: netip.MustParseAddr(tc.address), Port: 6443, Log: slog.New(slog.DiscardHandler),
				ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
			}
			if err := kubernetesService(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if _, err := client.CoreV1().Services("default").Get(t.Context(), serviceName, metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
			var got []string
			slices, err := client.DiscoveryV1().EndpointSlices("default").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range slices.Items {
				for _, e := range s.Endpoints {
					got = append(got, e.Addresses...)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
