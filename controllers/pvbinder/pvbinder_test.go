package pvbinder

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"skiff/controllers/loop"
)

// TestExternalProvisioner takes a claim to its volume as a CSI driver's
// provisioner sees it.
func TestExternalProvisioner(t *testing.T) {
	class := &storage.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "class"}, Provisioner: "d", VolumeBindingMode: ptr.To(storage.VolumeBindingWaitForFirstConsumer)}
	size := v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}
	claim := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "c"}, Spec: v1.PersistentVolumeClaimSpec{
		StorageClassName: ptr.To("class"), AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, Resources: v1.VolumeResourceRequirements{Requests: size},
	}}
	client := fake.NewClientset(class, claim)
	events := record.NewFakeRecorder(100)
	factory := informers.NewSharedInformerFactory(client, 0)
	c, err := New(Config{Parts: loop.Parts{Client: client, Informers: factory, Events: events}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	factory.StartWithContext(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() { cancel(); wg.Wait(); factory.Shutdown() }()
	claims := client.CoreV1().PersistentVolumeClaims("ns")
	read := func() *v1.PersistentVolumeClaim {
		t.Helper()
		got, err := claims.Get(ctx, "c", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	says(t, events, "WaitForFirstConsumer")
	if got := read().Annotations["volume.kubernetes.io/storage-provisioner"]; got != "" {
		t.Errorf("%s is asked for a volume before a pod needs it", got)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(20 * time.Second)
	// The fake server takes each write whole: the status' own would undo the next.
	for ; read().Status.Phase != v1.ClaimPending && time.Now().Before(end); <-tick.C {
	}
	chosen := read()
	chosen.Annotations = map[string]string{"volume.kubernetes.io/selected-node": "n"}
	if _, err := claims.Update(ctx, chosen, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	says(t, events, "ExternalProvisioning")
	for _, key := range []string{"volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"} {
		if got := read().Annotations[key]; got != "d" {
			t.Errorf("%s is %q, want d", key, got)
		}
	}
	made := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv", Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": "d"}}, Spec: v1.PersistentVolumeSpec{
		StorageClassName: "class", AccessModes: claim.Spec.AccessModes, Capacity: size, PersistentVolumeReclaimPolicy: v1.PersistentVolumeReclaimDelete,
		ClaimRef:               &v1.ObjectReference{Namespace: "ns", Name: "c", UID: "c"},
		PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "h"}},
	}}
	if _, err := client.CoreV1().PersistentVolumes().Create(ctx, made, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	end = time.Now().Add(20 * time.Second)
	for ; read().Status.Phase != v1.ClaimBound && time.Now().Before(end); <-tick.C {
	}
	got := read()
	if got.Status.Phase != v1.ClaimBound || got.Spec.VolumeName != "pv" {
		t.Fatalf("the claim is %s to %q, want Bound to pv", got.Status.Phase, got.Spec.VolumeName)
	}
	if q := got.Status.Capacity[v1.ResourceStorage]; q.String() != "1Gi" {
		t.Errorf("the claim has %s, want 1Gi", q.String())
	}
	// The provisioner deletes what it made once it is released.
	if err := claims.Delete(ctx, "c", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for ; time.Now().Before(end); <-tick.C {
		v, err := client.CoreV1().PersistentVolumes().Get(ctx, "pv", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if v.Status.Phase == v1.VolumeReleased {
			return
		}
	}
	t.Error("the volume was not released within 20 s")
}

func says(t *testing.T, events *record.FakeRecorder, text string) {
	t.Helper()
	for {
		select {
		case e := <-events.Events:
			if strings.Contains(e, text) {
				return
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no event %q within 20 s", text)
		}
	}
}
