package csi

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"skiff/kubelet/pluginwatch"
	"skiff/kubelet/volumes/volume"
)

var detached = storagev1.CSIDriverSpec{AttachRequired: ptr.To(false)}

func TestVolumeOfTwoPods(t *testing.T) {
	n := newNode(t, detached)
	a, b := n.request("a", false), n.request("b", false)
	got := n.setUp(a)
	if diff := cmp.Diff(&volume.Mounted{Path: filepath.Join(a.Dir, "mount"), Refresh: time.Hour}, got); diff != "" {
		t.Errorf("mounted (-want +got):\n%s", diff)
	}
	n.setUp(a) // again, as each step of a pod does
	n.setUp(b)
	n.called("stage vol", "publish vol", "publish vol")
	// The SHA-256 of "vol".
	global := filepath.Join(n.root, "plugins/kubernetes.io/csi/drv/b9f6da279ec59af95d121d1e1e502ecf056504e267f2f7dfc747ebd0f3f74298/globalmount")
	if mounted, err := n.mounter.IsMountPoint(global); err != nil || !mounted {
		t.Errorf("nothing is mounted on %s: %v", global, err)
	}
	if data, err := os.ReadFile(filepath.Join(a.Dir, "vol_data.json")); err != nil || !strings.Contains(string(data), `"driverName":"drv"`) || strings.Contains(string(data), "pending") {
		t.Errorf("the volume's data is %s (%v)", data, err)
	}
	if use, err := n.plugin.Measure(t.Context(), a); err != nil || *use.Used != 40 || *use.InodesFree != 6 {
		t.Errorf("usage %v (%v)", use, err)
	}
	n.tearDown(a)
	n.called("unpublish vol")
	n.tearDown(b)
	n.called("unpublish vol", "unstage vol")
	n.empty()
}

func TestOnePodAlone(t *testing.T) {
	n := newNode(t, detached)
	a, b := n.request("a", false), n.request("b", false)
	for _, r := range []*volume.Request{a, b} {
		r.PV.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOncePod}
	}
	n.setUp(a)
	want := "volume uses the ReadWriteOncePod access mode and is already in use by another pod"
	if _, err := n.plugin.SetUp(t.Context(), b); err == nil || err.Error() != want {
		t.Errorf("the second pod: %v, want %s", err, want)
	}
	n.setUp(a)
	n.tearDown(a)
	n.setUp(b)
	n.tearDown(b)
	n.empty()
}

func TestRestart(t *testing.T) {
	n := newNode(t, detached)
	a, b := n.request("a", false), n.request("b", false)
	n.setUp(a)
	n.called("stage vol", "publish vol")
	n.restart()
	n.setUp(a)
	n.called() // it is there
	n.setUp(b) // what was staged by whom is not known: staging again does no harm
	n.called("stage vol", "publish vol")
	n.restart()
	n.tearDown(b)
	n.called("unpublish vol")
	n.tearDown(a)
	n.called("unpublish vol", "unstage vol")
	n.empty()
}

func TestInterrupted(t *testing.T) {
	for _, tc := range []struct {
		name, fail string
		undo       []string
	}{
		{"while staging", "stage", []string{"unpublish vol", "unstage vol"}},
		{"while publishing", "publish", []string{"unpublish vol", "unstage vol"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNode(t, detached)
			a := n.request("a", false)
			n.driver.fail[tc.fail] = status.Error(codes.DeadlineExceeded, "too slow")
			_, err := n.plugin.SetUp(t.Context(), a)
			var at *volume.StepError
			if !errors.As(err, &at) || !strings.Contains(err.Error(), "too slow") {
				t.Fatalf("SetUp: %v", err)
			}
			n.driver.took()
			n.restart()
			// The driver may have done it all the same.
			if _, err := os.Stat(a.Dir); err == nil {
				n.tearDown(a)
				n.called(tc.undo...)
			} else {
				n.plugin.Forget("a")
				if err := n.plugin.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				n.called("unstage vol")
			}
			n.empty()
		})
	}
}

// TestHalfPublished ends the kubelet after the driver has mounted, and before it
// is known to have done all.
func TestHalfPublished(t *testing.T) {
	n := newNode(t, detached)
	a := n.request("a", false)
	n.driver.fail["answering"] = status.Error(codes.DeadlineExceeded, "too slow")
	if _, err := n.plugin.SetUp(t.Context(), a); err == nil {
		t.Fatal("SetUp succeeds")
	}
	n.restart()
	n.driver.took()
	n.setUp(a)
	n.called("stage vol", "publish vol")
	n.tearDown(a)
	n.empty()
}

func TestUndoFails(t *testing.T) {
	n := newNode(t, detached)
	a := n.request("a", false)
	n.setUp(a)
	for _, fail := range []string{"unpublish", "unstage"} {
		n.driver.fail[fail] = status.Error(codes.Internal, "no")
		if err := n.plugin.TearDown(t.Context(), a.Dir); err == nil {
			t.Fatalf("TearDown succeeds while %s fails", fail)
		}
		if len(n.plugin.volumes) != 1 {
			t.Errorf("the volume is forgotten after %s failed", fail)
		}
	}
	n.driver.took()
	n.restart()
	n.tearDown(a)
	n.called("unpublish vol", "unstage vol")
	n.empty()
}

func TestBlock(t *testing.T) {
	n := newNode(t, detached)
	a := n.request("a", true)
	got := n.setUp(a)
	if !got.Block || got.Path != filepath.Join(n.root, "plugins/kubernetes.io/csi/volumeDevices/publish/pv/a") {
		t.Errorf("mounted %v", got)
	}
	if n.driver.last.VolumeCapability.GetBlock() == nil || n.driver.last.StagingTargetPath != filepath.Join(n.root, "plugins/kubernetes.io/csi/volumeDevices/staging/pv") {
		t.Errorf("asked to publish %v", n.driver.last)
	}
	n.restart()
	n.setUp(a)
	n.called("stage vol", "publish vol")
	n.tearDown(a)
	n.called("unpublish vol", "unstage vol")
	n.empty()
}

func TestInline(t *testing.T) {
	n := newNode(t, storagev1.CSIDriverSpec{
		AttachRequired: ptr.To(true), PodInfoOnMount: ptr.To(true), VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral},
		TokenRequests: []storagev1.TokenRequest{{Audience: "aud"}}, ServiceAccountTokenInSecrets: ptr.To(true),
	})
	r := n.request("a", false)
	r.PV, r.PVC = nil, nil
	r.Volume.VolumeSource = v1.VolumeSource{CSI: &v1.CSIVolumeSource{
		Driver: "drv", ReadOnly: ptr.To(true), VolumeAttributes: map[string]string{"x": "y"}, NodePublishSecretRef: &v1.LocalObjectReference{Name: "own"},
	}}
	n.setUp(r)
	handle := ephemeralHandle("a", "v")
	n.called("publish " + handle)
	last := n.driver.last
	if !last.Readonly || last.StagingTargetPath != "" || last.VolumeContext["csi.storage.k8s.io/ephemeral"] != "true" || last.VolumeContext["x"] != "y" {
		t.Errorf("asked to publish %v", last)
	}
	want := map[string]string{"from": "ns/own", "csi.storage.k8s.io/serviceAccount.tokens": `{"aud":{"token":"a for aud","expirationTimestamp":"0001-01-01T00:00:00Z"}}`}
	if diff := cmp.Diff(want, last.Secrets); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
	n.tearDown(r)
	n.called("unpublish " + handle)
	n.empty()
}

func TestRepublish(t *testing.T) {
	spec := detached
	spec.RequiresRepublish = ptr.To(true)
	n := newNode(t, spec)
	a := n.request("a", false)
	n.setUp(a)
	n.setUp(a) // too soon
	n.called("stage vol", "publish vol")
	n.plugin.volumes[key{"drv", "vol"}].uses[use{"a", "pv"}].at = time.Now().Add(-time.Hour)
	n.driver.fail["publish"] = status.Error(codes.Unavailable, "not now")
	n.setUp(a) // a failure takes nothing away
	n.setUp(a)
	n.setUp(a)
	n.called("publish vol", "publish vol")
}

func TestAttached(t *testing.T) {
	n := newNode(t, storagev1.CSIDriverSpec{})
	a := n.request("a", false)
	name := attachmentName(key{"drv", "vol"}, "n1")
	attachment := &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     storagev1.VolumeAttachmentStatus{Attached: true, AttachmentMetadata: map[string]string{"device": "7"}},
	}
	if _, err := n.client.StorageV1().VolumeAttachments().Create(t.Context(), attachment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := n.plugin.SetUp(t.Context(), a)
		done <- err
	}()
	// The node says first that it uses the volume; only then it may be attached.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		n.mu.Lock()
		used := len(n.status.Status.VolumesInUse) == 1
		if used {
			n.status = n.status.DeepCopy()
			n.status.Status.VolumesAttached = []v1.AttachedVolume{{Name: uniqueName(key{"drv", "vol"})}}
		}
		n.mu.Unlock()
		if used {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the volume is not reported as in use")
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	n.called("stage vol", "publish vol")
	if got := n.driver.last.PublishContext["device"]; got != "7" {
		t.Errorf("the attachment gave device %q to the driver, want 7", got)
	}
	if got := n.driver.last.Secrets["from"]; got != "ns/secret" {
		t.Errorf("secret of %q, want ns/secret", got)
	}
	n.restart()
	if diff := cmp.Diff([]v1.UniqueVolumeName{"kubernetes.io/csi/drv^vol"}, n.plugin.InUse()); diff != "" {
		t.Errorf("in use after a restart (-want +got):\n%s", diff)
	}
	n.tearDown(a)
	n.empty()
	if used := n.status.Status.VolumesInUse; len(used) > 0 {
		t.Errorf("the node still says that it uses %v", used)
	}
}

// TestReportedFirst finds a volume attached already: it is said to be in use
// before it is used all the same, or it could be detached meanwhile.
func TestReportedFirst(t *testing.T) {
	n := newNode(t, storagev1.CSIDriverSpec{})
	a := n.request("a", false)
	name := uniqueName(key{"drv", "vol"})
	n.status.Status.VolumesAttached = []v1.AttachedVolume{{Name: name}}
	attachment := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: attachmentName(key{"drv", "vol"}, "n1")}, Status: storagev1.VolumeAttachmentStatus{Attached: true}}
	if _, err := n.client.StorageV1().VolumeAttachments().Create(t.Context(), attachment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.driver.staging = func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if used, _ := reported(n.status, name); !used {
			t.Error("the volume is staged before the node says that it uses it")
		}
	}
	n.setUp(a)
	n.tearDown(a)
}

func TestNotAttachedYet(t *testing.T) {
	n := newNode(t, storagev1.CSIDriverSpec{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the pod was deleted
	if _, err := n.plugin.SetUp(ctx, n.request("a", false)); !errors.Is(err, context.Canceled) {
		t.Errorf("SetUp: %v", err)
	}
	n.plugin.Forget("a")
	n.called()
	n.empty()
}

func TestExpand(t *testing.T) {
	small := resource.MustParse("1Gi")
	n := newNode(t, detached)
	a := n.request("a", false)
	a.PVC.Status.Capacity = v1.ResourceList{v1.ResourceStorage: small}
	if _, err := n.client.CoreV1().PersistentVolumeClaims("ns").Create(t.Context(), a.PVC.DeepCopy(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.setUp(a)
	n.called("stage vol", "publish vol")
	a.PV.Spec.Capacity[v1.ResourceStorage] = resource.MustParse("2Gi")
	n.setUp(a)
	n.called("expand vol to 2147483648")
	claim, err := n.client.CoreV1().PersistentVolumeClaims("ns").Get(t.Context(), "claim", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := claim.Status.Capacity[v1.ResourceStorage]; got.String() != "2Gi" {
		t.Errorf("the claim has %s, want 2Gi", got.String())
	}
	a.PVC = claim
	n.setUp(a)
	n.called()
}

func TestRegistration(t *testing.T) {
	n := newNode(t, detached)
	got, err := n.client.StorageV1().CSINodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []storagev1.CSINodeDriver{{Name: "drv", NodeID: "id-1", TopologyKeys: []string{"where"}, Allocatable: &storagev1.VolumeNodeResources{Count: ptr.To(int32(5))}}}
	if diff := cmp.Diff(want, got.Spec.Drivers); diff != "" {
		t.Errorf("drivers (-want +got):\n%s", diff)
	}
	for _, tc := range []struct {
		versions []string
		ok       bool
	}{{[]string{"1.0.0"}, true}, {[]string{"0.3.0", "v1.2.0"}, true}, {[]string{"0.3.0"}, false}, {nil, false}} {
		if err := n.plugin.Validate(pluginwatch.Info{Name: "d", Versions: tc.versions}); (err == nil) != tc.ok {
			t.Errorf("versions %v: %v", tc.versions, err)
		}
	}
	// Another socket of the same driver took over.
	other := n.info
	other.Socket += ".old"
	n.plugin.Deregister(other)
	if _, err := n.plugin.driver(t.Context(), "drv"); err != nil {
		t.Errorf("the driver is gone: %v", err)
	}
	n.plugin.Deregister(n.info)
	n.plugin.started = time.Now().Add(-time.Hour)
	_, err = n.plugin.SetUp(t.Context(), n.request("a", false))
	if want := "kubernetes.io/csi: driver name drv not found in the list of registered CSI drivers"; err == nil || err.Error() != want {
		t.Errorf("SetUp: %v, want %s", err, want)
	}
	n.plugin.Forget("a")
	n.empty()
}
