package handlers

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cbordirect "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/types"

	"skiff/apiserver/resources"
	"skiff/apiserver/store"
)

// FuzzFormats: an object that came as JSON is the same object when it is sent on as
// JSON, as CBOR or as protobuf and read again.
func FuzzFormats(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"a","labels":{"x":"y"},"creationTimestamp":"2026-01-02T03:04:05Z"},"spec":{"containers":[{"name":"c","ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"100m","memory":"1.5Gi"}}}]}}`))
	f.Add([]byte(`{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":"web"}},"env":[{"value":"\u0000\ud800"}]}],"volumes":[{"emptyDir":{"sizeLimit":"1e3"}}]}}`))
	f.Add([]byte(`{"metadata":{"annotations":{"":"","a":"😀"},"deletionGracePeriodSeconds":-9223372036854775808,"managedFields":[{"fieldsV1":{"f:a":{}}}]}}`))
	gvk := corev1.SchemeGroupVersion.WithKind("Pod")
	f.Fuzz(func(t *testing.T, b []byte) {
		obj := &corev1.Pod{}
		if _, err := decodeInto(formatJSON, b, gvk, obj, false); err != nil {
			return
		}
		doc, err := json.Marshal(obj)
		if err != nil {
			return // what Go can hold and JSON cannot: a field set of no JSON
		}
		want := &corev1.Pod{}
		if _, err := decodeInto(formatJSON, doc, gvk, want, false); err != nil {
			t.Fatalf("%s cannot be read again: %v", doc, err)
		}
		proto, err := store.EncodeProto(store.ProtoHeader(gvk), want)
		if err != nil {
			t.Fatal(err)
		}
		bin, err := cbordirect.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		for format, b := range map[string][]byte{formatJSON: doc, formatProto: proto, formatCBOR: bin} {
			got := &corev1.Pod{}
			if _, err := decodeInto(format, b, gvk, got, false); err != nil {
				t.Errorf("%s of %s: %v", format, doc, err)
			} else if !equality.Semantic.DeepEqual(want, got) {
				again, _ := json.Marshal(got)
				t.Errorf("%s made of %s\nthis      %s", format, doc, again)
			}
		}
	})
}

// FuzzUntyped: the same for custom resources, which have no protobuf.
func FuzzUntyped(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"a"},"spec":{"n":1,"f":1.0,"big":9007199254740993,"e":1e300,"list":[null,true,"x",{}]}}`))
	f.Add([]byte(`{"spec":{"":[[[]]],"\u0000":-0,"min":-9223372036854775808}}`))
	gvk := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Widget"}
	f.Fuzz(func(t *testing.T, b []byte) {
		want := &unstructured.Unstructured{}
		if _, err := decodeInto(formatJSON, b, gvk, want, false); err != nil {
			return
		}
		doc, err := json.Marshal(want.Object)
		if err != nil {
			t.Fatal(err)
		}
		bin, err := cbordirect.Marshal(want.Object)
		if err != nil {
			t.Fatal(err)
		}
		for format, b := range map[string][]byte{formatJSON: doc, formatCBOR: bin} {
			got := &unstructured.Unstructured{}
			if _, err := decodeInto(format, b, gvk, got, false); err != nil {
				t.Errorf("%s of %s: %v", format, doc, err)
				continue
			}
			if again, err := json.Marshal(got.Object); err != nil || string(again) != string(doc) {
				t.Errorf("%s made of %s\nthis      %s, %v", format, doc, again, err)
			}
		}
	})
}

// FuzzPatchTwice: a merge patch or strategic merge patch says how an object is to be,
// so that the second time it changes nothing.
func FuzzPatchTwice(f *testing.F) {
	res := &resources.Resource{Kind: "Pod", Plural: "pods", Hub: "v1", Versions: []resources.Version{resources.HubVersion[corev1.Pod]("v1", resources.Empty[corev1.PodList], nil)}}
	target := &Target{Resource: res, Version: &res.Versions[0], Name: "p"}
	f.Add([]byte(`{"metadata":{"labels":{"a":null,"b":"c"}},"spec":{"nodeName":"n"}}`))
	f.Add([]byte(`{"spec":{"containers":[{"name":"d","image":"x"}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &patcher{t: target, kind: types.MergePatchType, body: b, mode: validateIgnore}
		cur := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		cur.Name, cur.Labels = "p", map[string]string{"a": "1"}
		once, err := p.next(t.Context(), cur)
		if err != nil {
			return
		}
		twice, err := p.next(t.Context(), once)
		if err != nil || !equality.Semantic.DeepEqual(once, twice) {
			t.Errorf("%s made of %+v\nfirst %+v\nthen  %+v, %v", b, cur, once, twice, err)
		}
	})
}
