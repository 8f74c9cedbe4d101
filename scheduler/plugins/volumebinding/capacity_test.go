package volumebinding

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"skiff/scheduler/framework"
)

type handle struct {
	framework.Handle
	factory informers.SharedInformerFactory
}

func (h handle) Informers() informers.SharedInformerFactory { return h.factory }

func TestCapacity(t *testing.T) {
	capacity := func(name, class, zone, size, most string) *storagev1.CSIStorageCapacity {
		c := &storagev1.CSIStorageCapacity{ObjectMeta: metav1.ObjectMeta{Name: name}, StorageClassName: class}
		if zone != "" {
			c.NodeTopology = &metav1.LabelSelector{MatchLabels: map[string]string{"zone": zone}}
		}
		if size != "" {
			c.Capacity = ptr.To(resource.MustParse(size))
		}
		if most != "" {
			c.MaximumVolumeSize = ptr.To(resource.MustParse(most))
		}
		return c
	}
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "class"}, Provisioner: "d"}
	claim := &v1.PersistentVolumeClaim{Spec: v1.PersistentVolumeClaimSpec{Resources: v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("2Gi")}}}}
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"zone": "z1"}}}
	for _, tc := range []struct {
		name string
		// tells says whether the driver tells its capacity; nil that it has no object.
		tells *bool
		all   []*storagev1.CSIStorageCapacity
		want  string
	}{
		{"a driver without an object", nil, nil, ""},
		{"a driver that does not tell", ptr.To(false), nil, ""},
		{"nothing told", ptr.To(true), nil, errNoSpace},
		{"enough", ptr.To(true), []*storagev1.CSIStorageCapacity{capacity("a", "class", "z1", "2Gi", "")}, ""},
		{"too little", ptr.To(true), []*storagev1.CSIStorageCapacity{capacity("a", "class", "z1", "1Gi", "")}, errNoSpace},
		{"enough elsewhere", ptr.To(true), []*storagev1.CSIStorageCapacity{capacity("a", "class", "z2", "9Gi", "")}, errNoSpace},
		{"of another class", ptr.To(true), []*storagev1.CSIStorageCapacity{capacity("a", "other", "z1", "9Gi", "")}, errNoSpace},
		{"enough, but not in one piece", ptr.To(true), []*storagev1.CSIStorageCapacity{capacity("a", "class", "z1", "9Gi", "1Gi")}, errNoSpace},
		{"unknown", ptr.To(true), []*storagev1.CSIStorageCapacity{capacity("a", "class", "z1", "", "")}, errNoSpace},
		{"reachable from no node", ptr.To(true), []*storagev1.CSIStorageCapacity{capacity("a", "class", "", "9Gi", "")}, errNoSpace},
		{"enough in one of two pools", ptr.To(true), []*storagev1.CSIStorageCapacity{capacity("a", "class", "z1", "1Gi", ""), capacity("b", "class", "z1", "9Gi", "")}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			factory := informers.NewSharedInformerFactory(fake.NewClientset(), 0)
			made, err := New(nil, handle{factory: factory})
			if err != nil {
				t.Fatal(err)
			}
			storage := factory.Storage().V1()
			if tc.tells != nil {
				if err := storage.CSIDrivers().Informer().GetIndexer().Add(&storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: storagev1.CSIDriverSpec{StorageCapacity: tc.tells}}); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range tc.all {
				if err := storage.CSIStorageCapacities().Informer().GetIndexer().Add(c); err != nil {
					t.Fatal(err)
				}
			}
			plugin, ok := made.(*Plugin)
			if !ok {
				t.Fatalf("New made a %T", made)
			}
			got, err := plugin.capacity(claim, class, node)
			if err != nil || got != tc.want {
				t.Errorf("got %q (%v), want %q", got, err, tc.want)
			}
		})
	}
}
