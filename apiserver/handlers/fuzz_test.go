package handlers

import (
	"net/http"
	"net/url"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skiff/apiserver/resources"
	"skiff/apiserver/store"
)

// FuzzDecode: whatever a client sends is an object or an error, in every format.
func FuzzDecode(f *testing.F) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	gvk := corev1.SchemeGroupVersion.WithKind("Pod")
	proto, err := store.EncodeProto(store.ProtoHeader(gvk), pod)
	if err != nil {
		f.Fatal(err)
	}
	formats := []string{formatJSON, formatYAML, formatProto, formatCBOR}
	for i, seed := range []string{`{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c"}]}}`, "a: &a [*b]\nb: &b [1]\n", string(proto), "\xd9\xd9\xf7\xa1aa\x01"} {
		f.Add(i, []byte(seed))
	}
	f.Add(0, []byte(`{"metadata":{"name":"\xff\xfe"}}`))
	f.Add(0, []byte(`[[[[[[[[[[[[`))
	f.Add(1, []byte("a: &a [x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]"))
	f.Add(2, []byte("k8s\x00\x0a\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(_ *testing.T, format int, b []byte) {
		name := formats[uint(format)%uint(len(formats))]
		_, _ = decodeInto(name, b, gvk, &corev1.Pod{}, true)
		_, _ = decodeInto(name, b, gvk, &unstructured.Unstructured{}, true)
	})
}

// FuzzPatch: every patch gives an object or an error, bounded in size.
func FuzzPatch(f *testing.F) {
	res := &resources.Resource{Kind: "Pod", Plural: "pods", Hub: "v1", Versions: []resources.Version{resources.HubVersion[corev1.Pod]("v1", resources.Empty[corev1.PodList], nil)}}
	target := &Target{Resource: res, Version: &res.Versions[0], Name: "p"}
	kinds := []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType}
	f.Add(0, []byte(`[{"op":"copy","from":"/spec","path":"/spec/x"}]`))
	f.Add(0, []byte(`[{"op":"move","from":"","path":"/a"},{"op":"add","path":"/spec/containers/-","value":null}]`))
	f.Add(0, []byte(`[{"op":"add","path":"/spec/containers","value":[null]},{"op":"test","path":"/spec/containers","value":[null]}]`))
	f.Add(1, []byte(`{"spec":{"containers":null}}`))
	f.Add(2, []byte(`{"spec":{"containers":[{"$patch":"delete","name":"c"}],"$setElementOrder/containers":[{"name":"c"}]}}`))
	f.Add(2, []byte(`{"$patch":"replace","$retainKeys":[1]}`))
	f.Fuzz(func(t *testing.T, kind int, b []byte) {
		p := &patcher{t: target, kind: kinds[uint(kind)%uint(len(kinds))], body: b, mode: validateWarn}
		if p.check() != nil {
			return
		}
		cur := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		cur.Name = "p"
		var next runtime.Object
		next, err := p.next(t.Context(), cur)
		if (next == nil) == (err == nil) {
			t.Errorf("object %v, error %v", next, err)
		}
	})
}

// FuzzSelectors: selectors and options of any text are options or a Status.
func FuzzSelectors(f *testing.F) {
	res := &resources.Resource{Kind: "Pod", Plural: "pods", Hub: "v1", Versions: []resources.Version{resources.HubVersion[corev1.Pod]("v1", resources.Empty[corev1.PodList], nil)}}
	target := &Target{Resource: res, Version: &res.Versions[0]}
	f.Add("labelSelector=a+in+(b,c)&fieldSelector=metadata.name%3Da&limit=-1")
	f.Add("resourceVersion=0&resourceVersionMatch=Exact&continue=x&timeoutSeconds=99999999999999999999")
	f.Fuzz(func(_ *testing.T, query string) {
		_, _, _ = listOptions(&http.Request{URL: &url.URL{RawQuery: query}}, target)
	})
}
