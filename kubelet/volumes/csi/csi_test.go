package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	csispec "github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	"k8s.io/mount-utils"
	"k8s.io/utils/ptr"

	"skiff/kubelet/csinode"
	"skiff/kubelet/pluginwatch"
	"skiff/kubelet/volumes/volume"
)

// fakeDriver notes what it is asked and mounts into a fake mount table.
type fakeDriver struct {
	csispec.UnimplementedNodeServer
	mounter mount.Interface

	mu    sync.Mutex // guards what follows
	calls []string
	last  *csispec.NodePublishVolumeRequest
	fail  map[string]error
	// staging, when set, is called while a volume is staged.
	staging func()
}

func (d *fakeDriver) note(name, detail string) error {
	d.mu.Lock()
	d.calls = append(d.calls, strings.TrimSpace(name+" "+detail))
	d.mu.Unlock()
	return d.failure(name)
}

// failure gives the failure that is due, once.
func (d *fakeDriver) failure(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.fail[name]
	delete(d.fail, name)
	return err
}

// took returns the calls since it was asked last.
func (d *fakeDriver) took() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.calls
	d.calls = nil
	return out
}

func (d *fakeDriver) NodeGetCapabilities(context.Context, *csispec.NodeGetCapabilitiesRequest) (*csispec.NodeGetCapabilitiesResponse, error) {
	out := &csispec.NodeGetCapabilitiesResponse{}
	for _, kind := range []csispec.NodeServiceCapability_RPC_Type{
		csispec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, csispec.NodeServiceCapability_RPC_EXPAND_VOLUME, csispec.NodeServiceCapability_RPC_GET_VOLUME_STATS,
	} {
		out.Capabilities = append(out.Capabilities, &csispec.NodeServiceCapability{Type: &csispec.NodeServiceCapability_Rpc{Rpc: &csispec.NodeServiceCapability_RPC{Type: kind}}})
	}
	return out, nil
}

func (d *fakeDriver) NodeGetInfo(context.Context, *csispec.NodeGetInfoRequest) (*csispec.NodeGetInfoResponse, error) {
	return &csispec.NodeGetInfoResponse{NodeId: "id-1", MaxVolumesPerNode: 5, AccessibleTopology: &csispec.Topology{Segments: map[string]string{"where": "here"}}}, nil
}

func (d *fakeDriver) NodeStageVolume(_ context.Context, r *csispec.NodeStageVolumeRequest) (*csispec.NodeStageVolumeResponse, error) {
	if _, err := os.Stat(r.StagingTargetPath); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := d.note("stage", r.VolumeId); err != nil {
		return nil, err
	}
	if d.staging != nil {
		d.staging()
	}
	return &csispec.NodeStageVolumeResponse{}, d.mounter.Mount(r.VolumeId, r.StagingTargetPath, "", nil)
}

func (d *fakeDriver) NodeUnstageVolume(_ context.Context, r *csispec.NodeUnstageVolumeRequest) (*csispec.NodeUnstageVolumeResponse, error) {
	if err := d.note("unstage", r.VolumeId); err != nil {
		return nil, err
	}
	return &csispec.NodeUnstageVolumeResponse{}, d.unmount(r.StagingTargetPath)
}

func (d *fakeDriver) NodePublishVolume(_ context.Context, r *csispec.NodePublishVolumeRequest) (*csispec.NodePublishVolumeResponse, error) {
	if err := d.note("publish", r.VolumeId); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.last = r
	d.mu.Unlock()
	if r.VolumeCapability.GetBlock() != nil {
		// A device that is always there takes the place of a bind mount.
		if err := os.Symlink("/dev/null", r.TargetPath); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		return &csispec.NodePublishVolumeResponse{}, nil
	}
	if mounted, err := volume.MountPoint(d.mounter, r.TargetPath); err == nil && mounted {
		return &csispec.NodePublishVolumeResponse{}, nil
	}
	if err := os.MkdirAll(r.TargetPath, 0o750); err != nil {
		return nil, err
	}
	if err := d.mounter.Mount(r.StagingTargetPath, r.TargetPath, "", []string{"bind"}); err != nil {
		return nil, err
	}
	return &csispec.NodePublishVolumeResponse{}, d.failure("answering")
}

func (d *fakeDriver) NodeUnpublishVolume(_ context.Context, r *csispec.NodeUnpublishVolumeRequest) (*csispec.NodeUnpublishVolumeResponse, error) {
	if err := d.note("unpublish", r.VolumeId); err != nil {
		return nil, err
	}
	return &csispec.NodeUnpublishVolumeResponse{}, d.unmount(r.TargetPath)
}

func (d *fakeDriver) unmount(path string) error {
	if mounted, err := volume.MountPoint(d.mounter, path); err != nil || !mounted {
		return err
	}
	return d.mounter.Unmount(path)
}

func (d *fakeDriver) NodeExpandVolume(_ context.Context, r *csispec.NodeExpandVolumeRequest) (*csispec.NodeExpandVolumeResponse, error) {
	return &csispec.NodeExpandVolumeResponse{}, d.note("expand", fmt.Sprintf("%s to %d", r.VolumeId, r.CapacityRange.RequiredBytes))
}

func (d *fakeDriver) NodeGetVolumeStats(context.Context, *csispec.NodeGetVolumeStatsRequest) (*csispec.NodeGetVolumeStatsResponse, error) {
	return &csispec.NodeGetVolumeStatsResponse{Usage: []*csispec.VolumeUsage{
		{Unit: csispec.VolumeUsage_BYTES, Total: 100, Used: 40, Available: 60}, {Unit: csispec.VolumeUsage_INODES, Total: 10, Used: 4, Available: 6},
	}}, nil
}

// node is a plugin on a node, beside a driver.
type node struct {
	t       *testing.T
	root    string
	client  *fake.Clientset
	driver  *fakeDriver
	mounter *mount.FakeMounter
	info    pluginwatch.Info
	plugin  *Plugin

	mu     sync.Mutex // guards status
	status *v1.Node
}

type fixed struct{}

func (fixed) ConfigMap(context.Context, string, string) (*v1.ConfigMap, error) {
	return nil, errors.New("no ConfigMap")
}

func (fixed) Secret(_ context.Context, namespace, name string) (*v1.Secret, error) {
	return &v1.Secret{Data: map[string][]byte{"from": []byte(namespace + "/" + name)}}, nil
}

func (fixed) Token(_ context.Context, pod *v1.Pod, audience string, _ *int64) (*authenticationv1.TokenRequestStatus, error) {
	return &authenticationv1.TokenRequestStatus{Token: pod.Name + " for " + audience}, nil
}

func newNode(t *testing.T, spec storagev1.CSIDriverSpec, objects ...runtime.Object) *node {
	t.Helper()
	root, err := os.MkdirTemp("", "csi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	object := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n"}}
	n := &node{t: t, root: root, mounter: mount.NewFakeMounter(nil), status: object}
	n.client = fake.NewClientset(append(objects, object, &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "drv"}, Spec: spec})...)
	n.driver = &fakeDriver{mounter: n.mounter, fail: map[string]error{}}
	socket := filepath.Join(root, "csi.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	csispec.RegisterNodeServer(srv, n.driver)
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() { srv.Stop(); wg.Wait() })
	n.info = pluginwatch.Info{Type: "CSIPlugin", Name: "drv", Endpoint: socket, Socket: socket, Versions: []string{"1.0.0"}}
	n.restart()
	return n
}

// restart makes a new plugin, as a kubelet that was ended and came back has it.
func (n *node) restart() {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	nodes, err := csinode.New(csinode.Config{Client: n.client, Name: "n1"})
	if err != nil {
		n.t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(n.client, 0)
	drivers := factory.Storage().V1().CSIDrivers()
	n.plugin, err = New(Config{
		Client: n.client, Recorder: &record.FakeRecorder{}, Mounter: n.mounter, NodeName: "n1", Root: n.root, Objects: fixed{}, Tokens: fixed{},
		Drivers: drivers.Lister(), Synced: drivers.Informer().HasSynced, Nodes: nodes, Refresh: time.Hour,
		Node: func() *v1.Node { n.mu.Lock(); defer n.mu.Unlock(); return n.status },
		Report: func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.status = n.status.DeepCopy()
			n.status.Status.VolumesInUse = n.plugin.InUse()
		},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{n.plugin.Run, nodes.Run} {
		wg.Go(func() { _ = run(ctx) })
	}
	factory.StartWithContext(ctx)
	n.t.Cleanup(func() { cancel(); wg.Wait(); factory.Shutdown() })
	if err := n.plugin.Validate(n.info); err != nil {
		n.t.Fatal(err)
	}
	if err := n.plugin.Register(ctx, n.info); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) request(pod string, block bool) *volume.Request {
	kind, mode := "volumes", v1.PersistentVolumeFilesystem
	if block {
		kind, mode = "volumeDevices", v1.PersistentVolumeBlock
	}
	return &volume.Request{
		Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: pod, UID: types.UID(pod)}},
		Volume: &v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{
			PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"},
		}},
		PV: &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: v1.PersistentVolumeSpec{
			VolumeMode: &mode, AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			Capacity: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")},
			PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{
				Driver: "drv", VolumeHandle: "vol", NodePublishSecretRef: &v1.SecretReference{Namespace: "ns", Name: "secret"},
			}},
		}},
		PVC: &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "claim"}},
		Dir: filepath.Join(n.root, "pods", pod, kind, "kubernetes.io~csi", "pv"),
	}
}

func (n *node) setUp(r *volume.Request) *volume.Mounted {
	n.t.Helper()
	got, err := n.plugin.SetUp(n.t.Context(), r)
	if err != nil {
		n.t.Fatal(err)
	}
	return got
}

func (n *node) tearDown(r *volume.Request) {
	n.t.Helper()
	if err := n.plugin.TearDown(n.t.Context(), r.Dir); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) called(want ...string) {
	n.t.Helper()
	if diff := cmp.Diff(want, n.driver.took()); diff != "" {
		n.t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// empty fails when anything of a volume is left on the node.
func (n *node) empty() {
	n.t.Helper()
	if list, err := n.mounter.List(); err != nil || len(list) > 0 {
		n.t.Errorf("mounts are left: %v (%v)", list, err)
	}
	for _, dir := range []string{"pods", "plugins"} {
		_ = filepath.WalkDir(filepath.Join(n.root, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && (!d.IsDir() || strings.Contains(path, "globalmount") || filepath.Base(path) == "pv") {
				n.t.Errorf("left behind: %s", path)
			}
			return nil
		})
	}
	if used := n.plugin.InUse(); len(used) > 0 {
		n.t.Errorf("still in use: %v", used)
	}
}

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
