package conformance

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

// object is an API object.
type object interface {
	runtime.Object
	metav1.Object
}

// resourceOf is the typed client of a resource.
type resourceOf[T object, L runtime.Object] interface {
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
	DeleteCollection(context.Context, metav1.DeleteOptions, metav1.ListOptions) error
	Get(context.Context, string, metav1.GetOptions) (T, error)
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
	Patch(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (T, error)
}

// lifecycle takes two objects, both made with the given labels, through all
// that their resource can do. gone deletes one where that takes more than
// deleting it.
func lifecycle[T object, L runtime.Object](s *space, c resourceOf[T, L], fresh func() T) {
	s.t.Helper()
	mark := map[string]string{"skiff-test": s.name}
	selector := metav1.ListOptions{LabelSelector: "skiff-test=" + s.name}
	made := func() T {
		o := fresh()
		o.SetLabels(mark)
		out, err := c.Create(s.ctx, o, metav1.CreateOptions{})
		s.must(err)
		return out
	}
	labelled := func(what string, o T, key string) {
		s.t.Helper()
		if o.GetLabels()[key] != s.name {
			s.t.Errorf("%s: labels %v have no %s", what, o.GetLabels(), key)
		}
	}
	count := func(what string, want int) {
		s.t.Helper()
		s.eventually(time.Minute, what, func() error {
			list, err := c.List(s.ctx, selector)
			if err != nil {
				return err
			}
			if n := meta.LenList(list); n != want {
				return fmt.Errorf("%d objects, want %d", n, want)
			}
			return nil
		})
	}
	events, err := c.Watch(s.ctx, selector)
	s.must(err)
	defer events.Stop()

	first := made()
	got, err := c.Get(s.ctx, first.GetName(), metav1.GetOptions{})
	s.must(err)
	if got.GetUID() != first.GetUID() || got.GetUID() == "" {
		s.t.Errorf("got UID %q, made %q", got.GetUID(), first.GetUID())
	}
	for _, kind := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType} {
		key := map[types.PatchType]string{types.MergePatchType: "merged", types.StrategicMergePatchType: "strategic"}[kind]
		got, err = c.Patch(s.ctx, first.GetName(), kind, fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, key, s.name), metav1.PatchOptions{})
		s.must(err)
		labelled("patched", got, key)
	}
	count("listed", 1)
	s.must(c.Delete(s.ctx, first.GetName(), metav1.DeleteOptions{}))
	count("deleted", 0)
	if _, err := c.Get(s.ctx, first.GetName(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		s.t.Errorf("reading what was deleted: %v, want not found", err)
	}

	second := made()
	s.eventually(time.Minute, "an update", func() error {
		o, err := c.Get(s.ctx, second.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		o.SetLabels(map[string]string{"skiff-test": s.name, "updated": s.name})
		got, err = c.Update(s.ctx, o, metav1.UpdateOptions{})
		return err
	})
	labelled("updated", got, "updated")
	made()
	count("two listed", 2)
	s.must(c.DeleteCollection(s.ctx, metav1.DeleteOptions{}, selector))
	count("deleted as a collection", 0)

	kinds := map[watch.EventType]int{}
	for limit := time.After(30 * time.Second); kinds[watch.Deleted] < 3; {
		select {
		case e, ok := <-events.ResultChan():
			if !ok {
				s.t.Fatalf("the watch ended after %v", kinds)
			}
			kinds[e.Type]++
		case <-limit:
			s.t.Fatalf("the watch told of %v, want three objects deleted", kinds)
		}
	}
	if kinds[watch.Added] != 3 || kinds[watch.Modified] < 3 {
		s.t.Errorf("the watch told of %v, want 3 added and at least 3 modified", kinds)
	}
}

// protobuf is a client that speaks as the official tests do.
func (s *space) protobuf() kubernetes.Interface {
	s.t.Helper()
	config := rest.CopyConfig(s.config)
	config.ContentType, config.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	c, err := kubernetes.NewForConfig(config)
	s.must(err)
	return c
}

func TestStorageAPI(t *testing.T) {
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{GenerateName: name + "-"} }
	for name, run := range map[string]func(*space, kubernetes.Interface){
		// Conformance: [sig-storage] CSIInlineVolumes should run through the lifecycle of a CSIDriver
		"csidriver": func(s *space, c kubernetes.Interface) {
			lifecycle(s, c.StorageV1().CSIDrivers(), func() *storagev1.CSIDriver {
				return &storagev1.CSIDriver{ObjectMeta: named("inline-driver"), Spec: storagev1.CSIDriverSpec{
					VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecycleEphemeral},
				}}
			})
		},
		// Conformance: [sig-storage] CSINodes CSI Conformance should run through the lifecycle of a csinode
		"csinode": func(s *space, c kubernetes.Interface) {
			lifecycle(s, c.StorageV1().CSINodes(), func() *storagev1.CSINode {
				return &storagev1.CSINode{ObjectMeta: named("csinode"), Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{
					{Name: "driver-" + s.name, NodeID: "node-" + s.name, TopologyKeys: []string{"topology.example.com/zone"}},
				}}}
			})
		},
		// Conformance: [sig-storage] CSIStorageCapacity should support CSIStorageCapacities API operations
		"csistoragecapacity": func(s *space, c kubernetes.Interface) {
			lifecycle(s, c.StorageV1().CSIStorageCapacities(s.name), func() *storagev1.CSIStorageCapacity {
				return &storagev1.CSIStorageCapacity{ObjectMeta: named("capacity"), StorageClassName: "class",
					NodeTopology: &metav1.LabelSelector{}, Capacity: ptr.To(resource.MustParse("1Gi"))}
			})
			// It is listed over all namespaces too.
			all, err := c.StorageV1().CSIStorageCapacities(metav1.NamespaceAll).List(s.ctx, metav1.ListOptions{})
			s.must(err)
			for _, o := range all.Items {
				if o.Namespace == s.name {
					s.t.Errorf("%s is left", o.Name)
				}
			}
		},
		// Conformance: [sig-storage] StorageClasses CSI Conformance should run through the lifecycle of a StorageClass
		"storageclass": func(s *space, c kubernetes.Interface) {
			lifecycle(s, c.StorageV1().StorageClasses(), func() *storagev1.StorageClass {
				return &storagev1.StorageClass{ObjectMeta: named("class"), Provisioner: "example.com/none", Parameters: map[string]string{"a": "b"}}
			})
		},
		// Conformance: [sig-storage] VolumeAttributesClass [FeatureGate:VolumeAttributesClass] should run through the lifecycle of a VolumeAttributesClass
		"volumeattributesclass": func(s *space, c kubernetes.Interface) {
			lifecycle(s, c.StorageV1().VolumeAttributesClasses(), func() *storagev1.VolumeAttributesClass {
				return &storagev1.VolumeAttributesClass{ObjectMeta: named("attributes"), DriverName: "example.com", Parameters: map[string]string{"a": "b"}}
			})
		},
		// Conformance: [sig-storage] VolumeAttachment Conformance should run through the lifecycle of a VolumeAttachment
		"volumeattachment": func(s *space, c kubernetes.Interface) {
			lifecycle(s, c.StorageV1().VolumeAttachments(), func() *storagev1.VolumeAttachment { return attachment(s) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			run(s, s.client)
			run(s, s.protobuf())
		})
	}
}

// attachment is one that nothing acts on.
func attachment(s *space) *storagev1.VolumeAttachment {
	return &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{GenerateName: "va-"}, Spec: storagev1.VolumeAttachmentSpec{
		Attacher: "attacher-" + s.name, NodeName: "node-" + s.name,
		Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To("pv-" + s.name)},
	}}
}

// Conformance: [sig-storage] VolumeAttachment Conformance should apply changes to a volumeattachment status
func TestStorageVolumeAttachmentStatus(t *testing.T) {
	s := parallel(t)
	c := s.protobuf().StorageV1().VolumeAttachments()
	va, err := c.Create(s.ctx, attachment(s), metav1.CreateOptions{})
	s.must(err)
	va, err = c.Patch(s.ctx, va.Name, types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{%q:"patched"}}}`, va.Name), metav1.PatchOptions{})
	s.must(err)
	if va.Labels[va.Name] != "patched" {
		t.Errorf("labels %v", va.Labels)
	}
	attached := func(what string, va *storagev1.VolumeAttachment, want bool) {
		t.Helper()
		if va.Status.Attached != want {
			t.Errorf("%s: attached %v, want %v", what, va.Status.Attached, want)
		}
	}
	get := func() *storagev1.VolumeAttachment {
		var out storagev1.VolumeAttachment
		s.must(s.protobuf().StorageV1().RESTClient().Get().Resource("volumeattachments").Name(va.Name).SubResource("status").Do(s.ctx).Into(&out))
		return &out
	}
	attached("new", get(), false)
	va, err = c.Patch(s.ctx, va.Name, types.MergePatchType, []byte(`{"status":{"attached":true}}`), metav1.PatchOptions{}, "status")
	s.must(err)
	attached("status patched", va, true)
	va = get()
	attached("read after", va, true)
	va.Status.Attached = false
	va.Spec.Attacher = "other"
	va, err = c.UpdateStatus(s.ctx, va, metav1.UpdateOptions{})
	s.must(err)
	attached("status updated", va, false)
	if va.Spec.Attacher != "attacher-"+s.name {
		t.Errorf("a status update changed the attacher to %s", va.Spec.Attacher)
	}
	va.Status.Attached = true
	va, err = c.Update(s.ctx, va, metav1.UpdateOptions{})
	s.must(err)
	attached("updated without status", va, false)
	s.must(c.Delete(s.ctx, va.Name, metav1.DeleteOptions{}))
	if _, err := c.Get(s.ctx, va.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("reading what was deleted: %v", err)
	}
}

// The discovery part of the row on CSIStorageCapacity.
func TestStorageDiscovery(t *testing.T) {
	s := parallel(t)
	groups, err := s.client.Discovery().ServerGroups()
	s.must(err)
	found := false
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			found = found || g.Name == "storage.k8s.io" && v.Version == "v1"
		}
	}
	if !found {
		t.Errorf("/apis has no storage.k8s.io/v1: %v", groups.Groups)
	}
	group := &metav1.APIGroup{}
	s.must(s.client.Discovery().RESTClient().Get().AbsPath("/apis/storage.k8s.io").Do(s.ctx).Into(group))
	if len(group.Versions) == 0 || group.Versions[0].GroupVersion != "storage.k8s.io/v1" {
		t.Errorf("/apis/storage.k8s.io has versions %v", group.Versions)
	}
	resources, err := s.client.Discovery().ServerResourcesForGroupVersion("storage.k8s.io/v1")
	s.must(err)
	verbs := map[string]metav1.Verbs{}
	for _, r := range resources.APIResources {
		verbs[r.Name] = r.Verbs
	}
	for _, r := range []string{"csidrivers", "csinodes", "csistoragecapacities", "storageclasses", "volumeattachments", "volumeattributesclasses"} {
		if got := len(verbs[r]); got != 8 {
			t.Errorf("%s has verbs %v, want the eight", r, verbs[r])
		}
	}
	if len(verbs["volumeattachments/status"]) != 3 {
		t.Errorf("volumeattachments/status has verbs %v", verbs["volumeattachments/status"])
	}
}

// Conformance: [sig-storage] CSIInlineVolumes should support CSIVolumeSource in Pod API
func TestStorageInlineCSI(t *testing.T) {
	s := parallel(t)
	inline := func() *corev1.Pod {
		p := mounted(probePod("inline", "serve"), "/mnt/test", corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{
			Driver: "e2e.example.com", ReadOnly: ptr.To(true), FSType: ptr.To("ext4"), VolumeAttributes: map[string]string{"a": "b"},
		}})
		p.Name, p.GenerateName = "", "inline-"
		return p
	}
	lifecycle(s, s.client.CoreV1().Pods(s.name), inline)
	lifecycle(s, s.protobuf().CoreV1().Pods(s.name), inline)
}
