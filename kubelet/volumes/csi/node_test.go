package csi

import (
	"context"
	"errors"
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

	"skiff/kubelet/csinode"
	"skiff/kubelet/pluginwatch"
	"skiff/kubelet/volumes/volume"
)

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
	factory.WaitForCacheSync(ctx.Done()) // a pod that is gone does not wait for it
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
