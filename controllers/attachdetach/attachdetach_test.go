package attachdetach

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"skiff/controllers/loop"
)

// eventually asks until check is true.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !check(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// TestLife takes a volume through a pod's life, with a driver's answers.
func TestLife(t *testing.T) {
	v := volume("a")
	claim := &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "claim-a"}, Spec: v1.PersistentVolumeClaimSpec{VolumeName: "a"},
		Status: v1.PersistentVolumeClaimStatus{Phase: v1.ClaimBound},
	}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: v1.PodSpec{
		NodeName: "n",
		Volumes:  []v1.Volume{{Name: "x", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "claim-a"}}}},
	}}
	unattached := volume("b")
	unattached.Spec.CSI.Driver = "plain"
	other := claim.DeepCopy()
	other.Name, other.Spec.VolumeName = "claim-b", "b"
	pod.Spec.Volumes = append(pod.Spec.Volumes, v1.Volume{Name: "y", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "claim-b"}}})
	client := fake.NewClientset(v, unattached, claim, other, node(true), pod, &storage.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Spec: storage.CSIDriverSpec{AttachRequired: ptr.To(false)}})
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

	attachments := client.StorageV1().VolumeAttachments()
	name := AttachmentName("h-a", "d", "n")
	var got *storage.VolumeAttachment
	eventually(t, "a VolumeAttachment", func() bool {
		got, err = attachments.Get(ctx, name, metav1.GetOptions{})
		return err == nil
	})
	if got.Spec.Attacher != "d" || got.Spec.NodeName != "n" || *got.Spec.Source.PersistentVolumeName != "a" {
		t.Errorf("the attachment asks for %v", got.Spec)
	}
	got.Status.AttachError = &storage.VolumeError{Message: "not today"}
	if got, err = attachments.UpdateStatus(ctx, got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	says(t, events, `FailedAttachVolume AttachVolume.Attach failed for volume "a" : not today`)
	got.Status = storage.VolumeAttachmentStatus{Attached: true}
	if _, err = attachments.UpdateStatus(ctx, got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	says(t, events, `SuccessfulAttachVolume AttachVolume.Attach succeeded for volume "a" `)
	attached := func() bool {
		n, err := client.CoreV1().Nodes().Get(ctx, "n", metav1.GetOptions{})
		return err == nil && slices.ContainsFunc(n.Status.VolumesAttached, func(a v1.AttachedVolume) bool { return a.Name == "kubernetes.io/csi/d^h-a" })
	}
	eventually(t, "the volume in the node's status", attached)
	if all, err := attachments.List(ctx, metav1.ListOptions{}); err != nil || len(all.Items) != 1 {
		t.Errorf("attachments: %v (%v), want one: the other driver attaches nothing", all.Items, err)
	}
	if err := client.CoreV1().Pods("ns").Delete(ctx, "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the volume detached", func() bool {
		_, err := attachments.Get(ctx, name, metav1.GetOptions{})
		return err != nil && !attached()
	})
}

func says(t *testing.T, events *record.FakeRecorder, text string) {
	t.Helper()
	select {
	case e := <-events.Events:
		if !strings.Contains(e, text) {
			t.Errorf("event %q, want %q", e, text)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("no event %q within 20 s", text)
	}
}

func TestMade(t *testing.T) {
	for name, want := range map[string]bool{
		AttachmentName("handle", "driver", "node"): true,
		"csi-1234":         false,
		"va-conformance-1": false,
		"csi-" + "zz0000000000000000000000000000000000000000000000000000000000zz0000": false,
	} {
		if got := Made(name); got != want {
			t.Errorf("%s: made here: %v, want %v", name, got, want)
		}
	}
}
