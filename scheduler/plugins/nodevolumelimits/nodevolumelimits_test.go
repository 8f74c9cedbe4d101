package nodevolumelimits

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"skiff/scheduler/framework"
)

// handle gives a plugin its informers, and nothing else.
type handle struct {
	framework.Handle
	factory informers.SharedInformerFactory
}

func (h handle) Informers() informers.SharedInformerFactory { return h.factory }

// pod uses the claims a, b, ... of volumes of the same name.
func pod(claims ...string) *framework.PodInfo {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}}
	for _, c := range claims {
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: c, VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: c}}})
	}
	info, _ := framework.NewPodInfo(p)
	return info
}

func TestFilter(t *testing.T) {
	full := framework.NewStatus(framework.Unschedulable, ErrReasonExceeded)
	for _, tc := range []struct {
		name string
		// limit of the driver; nil says none, and known that the node has it.
		limit    *int32
		unknown  bool
		pod      *framework.PodInfo
		others   []*framework.PodInfo
		attached []string
		want     *framework.Status
	}{
		{name: "room", limit: ptr.To(int32(2)), pod: pod("a"), others: []*framework.PodInfo{pod("b")}},
		{name: "full", limit: ptr.To(int32(2)), pod: pod("a"), others: []*framework.PodInfo{pod("b", "c")}, want: full},
		{name: "a volume that is there already", limit: ptr.To(int32(2)), pod: pod("b"), others: []*framework.PodInfo{pod("b", "c")}},
		{name: "attached, though no pod uses it", limit: ptr.To(int32(1)), pod: pod("a"), attached: []string{"b"}, want: full},
		{name: "used and attached counts once", limit: ptr.To(int32(2)), pod: pod("a"), others: []*framework.PodInfo{pod("b")}, attached: []string{"b"}},
		{name: "not made yet", limit: ptr.To(int32(1)), pod: pod("new"), others: []*framework.PodInfo{pod("b")}, want: full},
		{name: "another driver's", limit: ptr.To(int32(0)), pod: pod("other")},
		{name: "no limit", pod: pod("a", "b", "c")},
		{name: "a node without drivers", unknown: true, limit: ptr.To(int32(0)), pod: pod("a")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			factory := informers.NewSharedInformerFactory(fake.NewClientset(), 0)
			made, err := New(nil, handle{factory: factory})
			if err != nil {
				t.Fatal(err)
			}
			core, storage := factory.Core().V1(), factory.Storage().V1()
			put := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			for name, driver := range map[string]string{"a": "d", "b": "d", "c": "d", "other": "e"} {
				put(core.PersistentVolumes().Informer().GetIndexer().Add(&v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.PersistentVolumeSpec{
					PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: name}},
				}}))
				put(core.PersistentVolumeClaims().Informer().GetIndexer().Add(&v1.PersistentVolumeClaim{
					ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: v1.PersistentVolumeClaimSpec{VolumeName: name},
				}))
			}
			put(core.PersistentVolumeClaims().Informer().GetIndexer().Add(&v1.PersistentVolumeClaim{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "new"}, Spec: v1.PersistentVolumeClaimSpec{StorageClassName: ptr.To("class")},
			}))
			put(storage.StorageClasses().Informer().GetIndexer().Add(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "class"}, Provisioner: "d"}))
			if !tc.unknown {
				csi := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "d"}}}}
				if tc.limit != nil {
					csi.Spec.Drivers[0].Allocatable = &storagev1.VolumeNodeResources{Count: tc.limit}
				}
				put(storage.CSINodes().Informer().GetIndexer().Add(csi))
			}
			for _, name := range tc.attached {
				put(storage.VolumeAttachments().Informer().GetIndexer().Add(&storagev1.VolumeAttachment{
					ObjectMeta: metav1.ObjectMeta{Name: name},
					Spec:       storagev1.VolumeAttachmentSpec{Attacher: "d", NodeName: "n", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &name}},
				}))
			}
			node := framework.NewNodeInfo(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, tc.others...)
			plugin, ok := made.(*Plugin)
			if !ok {
				t.Fatalf("New made a %T", made)
			}
			got := plugin.Filter(t.Context(), framework.NewCycleState(), tc.pod, node)
			if got.Code() != tc.want.Code() || got.Message() != tc.want.Message() {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
