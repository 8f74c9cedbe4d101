package podtopologylabels

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"skiff/apiserver/admission"
)

func TestAdmit(t *testing.T) {
	nodes := cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil)
	for name, labels := range map[string]map[string]string{
		"zoned": {v1.LabelTopologyZone: "z", v1.LabelTopologyRegion: "r", "other": "x"},
		"plain": {"other": "x"},
	} {
		if err := nodes.Add(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}); err != nil {
			t.Fatal(err)
		}
	}
	p := New(corelisters.NewNodeLister(nodes))
	binding := func(node string, labels map[string]string) *v1.Binding {
		return &v1.Binding{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Target: v1.ObjectReference{Kind: "Node", Name: node}}
	}
	pod := func(node string) *v1.Pod { return &v1.Pod{Spec: v1.PodSpec{NodeName: node}} }
	for name, tc := range map[string]struct {
		obj         runtime.Object
		subresource string
		want        map[string]string
	}{
		"a binding":               {binding("zoned", nil), "binding", map[string]string{v1.LabelTopologyZone: "z", v1.LabelTopologyRegion: "r"}},
		"a binding that claims":   {binding("zoned", map[string]string{v1.LabelTopologyZone: "mine", "a": "b"}), "binding", map[string]string{v1.LabelTopologyZone: "z", v1.LabelTopologyRegion: "r", "a": "b"}},
		"a node without a zone":   {binding("plain", nil), "binding", nil},
		"a node that is not here": {binding("none", nil), "binding", nil},
		"a pod on a node":         {pod("zoned"), "", map[string]string{v1.LabelTopologyZone: "z", v1.LabelTopologyRegion: "r"}},
		"a pod without a node":    {pod(""), "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := &admission.Attributes{Object: tc.obj, Operation: admission.Create, Subresource: tc.subresource, Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}}
			if err := p.Admit(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, tc.obj.(metav1.Object).GetLabels()); d != "" {
				t.Errorf("labels (-want +got):\n%s", d)
			}
		})
	}
}
