package volumes

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
	"k8s.io/mount-utils"

	"skiff/kubelet/volumes/volume"
)

// plain is a kind of volume that is always ready, or fails.
type plain struct{ fail error }

func (*plain) Name() string                  { return "test/plain" }
func (*plain) Supports(*volume.Request) bool { return true }

func (p *plain) SetUp(_ context.Context, r *volume.Request) (*volume.Mounted, error) {
	return &volume.Mounted{Path: r.Dir, Refresh: time.Minute, Block: r.Block()}, p.fail
}

func (*plain) TearDown(context.Context, string) error { return nil }

func (*plain) Measure(context.Context, *volume.Request) (*volume.Usage, error) {
	used := uint64(7)
	return &volume.Usage{Used: &used}, nil
}

func TestClaimOfARunningPod(t *testing.T) {
	block := v1.PersistentVolumeBlock
	claim := &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "c"}, Spec: v1.PersistentVolumeClaimSpec{VolumeName: "pv"},
		Status: v1.PersistentVolumeClaimStatus{Phase: v1.ClaimPending},
	}
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: v1.PersistentVolumeSpec{VolumeMode: &block, ClaimRef: &v1.ObjectReference{UID: "c"}}}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "p"}, Spec: v1.PodSpec{
		Volumes:    []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}},
		Containers: []v1.Container{{VolumeDevices: []v1.VolumeDevice{{Name: "v"}}}},
	}}
	client := fake.NewClientset(claim, pv)
	kind := &plain{}
	m, err := New(Config{Client: client, PodsDir: t.TempDir(), Mounter: mount.NewFakeMounter(nil), Plugins: []volume.Plugin{kind}})
	if err != nil {
		t.Fatal(err)
	}
	// The claim is bound while the pod waits for it.
	looks := 0
	client.PrependReactor("get", "persistentvolumeclaims", func(ktesting.Action) (bool, runtime.Object, error) {
		switch looks++; looks {
		case 1: // the authorizer has not seen the pod yet
			return true, nil, apierrors.NewForbidden(v1.Resource("persistentvolumeclaims"), "c", errors.New("no relationship found"))
		case 2:
			return false, nil, nil
		}
		bound := claim.DeepCopy()
		bound.Status.Phase = v1.ClaimBound
		return true, bound, nil
	})
	if errs := m.SetUp(t.Context(), pod); len(errs) > 0 {
		t.Fatal(errs[0])
	}
	if got := m.Mounted("p")["v"]; !got.Block || !strings.HasSuffix(got.Path, "/p/volumeDevices/test~plain/pv") {
		t.Errorf("mounted %v", got)
	}
	if got := m.RefreshIn("p"); got != time.Minute {
		t.Errorf("set up again in %v, want a minute", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.Run(ctx) })
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); len(m.Usage("p")) == 0 && time.Now().Before(end); <-tick.C {
	}
	cancel()
	wg.Wait()
	if got := m.Usage("p"); len(got) != 1 || *got[0].Used != 7 || got[0].Claim != "c" {
		t.Errorf("usage %v", got)
	}
	client.PrependReactor("get", "*", func(ktesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("the API server is away")
	})
	if errs := m.SetUp(t.Context(), pod); len(errs) > 0 {
		t.Errorf("a running pod's volume: %v", errs[0])
	}
	if len(m.Mounted("p")) != 1 {
		t.Error("the volume is forgotten while the API server is away")
	}
	other := pod.DeepCopy()
	other.UID = "other"
	errs := m.SetUp(t.Context(), other)
	if want := "error processing PVC ns/c: failed to fetch PVC from API server: the API server is away"; len(errs) != 1 || !strings.HasSuffix(errs[0].Message, want) {
		t.Errorf("a new pod: %v, want %s", errs, want)
	}
}

func TestStepOfAFailure(t *testing.T) {
	kind := &plain{fail: &volume.StepError{Step: "MountVolume.MountDevice", Err: errors.New("no")}}
	m, err := New(Config{Client: fake.NewClientset(), PodsDir: t.TempDir(), Mounter: mount.NewFakeMounter(nil), Plugins: []volume.Plugin{kind}})
	if err != nil {
		t.Fatal(err)
	}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "p"}, Spec: v1.PodSpec{
		Volumes: []v1.Volume{{Name: "v"}}, Containers: []v1.Container{{VolumeMounts: []v1.VolumeMount{{Name: "v"}}}},
	}}
	errs := m.SetUp(t.Context(), pod)
	if want := `MountVolume.MountDevice failed for volume "v" : no`; len(errs) != 1 || errs[0].Message != want {
		t.Errorf("got %v, want %s", errs, want)
	}
}
