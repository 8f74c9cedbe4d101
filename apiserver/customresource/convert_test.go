package customresource

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestAccept(t *testing.T) {
	object := func(version, kind string, meta map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "g/" + version, "kind": kind, "metadata": meta}}
	}
	in := map[string]any{"name": "a", "uid": "1", "labels": map[string]any{"l": "1"}, "finalizers": []any{"f"}}
	const head = "conversion webhook for g/v1, Kind=K returned invalid "
	for _, c := range []struct {
		name string
		out  *unstructured.Unstructured
		want string
		meta map[string]any
	}{
		{
			name: "only labels and annotations are the webhook's",
			out:  object("v2", "K", map[string]any{"name": "a", "uid": "1", "labels": map[string]any{"l": "2"}, "annotations": map[string]any{"x": "y"}, "finalizers": []any{}}),
			meta: map[string]any{"name": "a", "uid": "1", "labels": map[string]any{"l": "2"}, "annotations": map[string]any{"x": "y"}, "finalizers": []any{"f"}},
		},
		{name: "version", out: object("v3", "K", in), want: head + "converted object at index 0: invalid groupVersion (expected g/v2, received g/v3)"},
		{name: "kind", out: object("v2", "L", in), want: head + "converted object at index 0: invalid kind (expected K, received L)"},
		{name: "name", out: object("v2", "K", map[string]any{"name": "b", "uid": "1"}), want: head + "converted object at index 0: must have the same name: a != b"},
		{name: "no metadata", out: object("v2", "K", nil), want: head + "converted object at index 0: must have the same name: a != "},
		{
			name: "a label that is no text", out: object("v2", "K", map[string]any{"name": "a", "uid": "1", "labels": map[string]any{"l": int64(1)}}),
			want: head + "metadata in object at index 0: metadata.labels[l] must be a string, but is int64 in converted object",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := accept(0, object("v1", "K", in), c.out, schema.GroupVersion{Group: "g", Version: "v2"})
			if c.want != "" {
				if err == nil || err.Error() != c.want {
					t.Errorf("got %v, want %s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.meta, c.out.Object["metadata"]); diff != "" {
				t.Error(diff)
			}
		})
	}
}
