package controllers

import (
	"context"
	"errors"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestElected(t *testing.T) {
	client := fake.NewClientset()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := false
	err := Elected(ctx, client, "part", "me", func(ctx context.Context) error {
		lease, err := client.CoordinationV1().Leases("kube-system").Get(ctx, "part", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != "me" {
			t.Errorf("holder %v", lease.Spec.HolderIdentity)
		}
		cancel()
		<-ctx.Done()
		ended = true
		return nil
	})
	if err != nil || !ended {
		t.Errorf("Elected = %v, joined %v", err, ended)
	}
	broken := errors.New("broken")
	if err := Elected(context.Background(), client, "other", "me", func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}
