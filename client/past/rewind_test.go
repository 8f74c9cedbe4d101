package past

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// object is a ConfigMap of some content, with what the server writes.
func object(name, uid, value string, more map[string]any) unstructured.Unstructured {
	metadata := map[string]any{"name": name, "namespace": "ns", "uid": uid, "resourceVersion": uid + "1", "managedFields": []any{map[string]any{"manager": value}}}
	for key, field := range more {
		metadata[key] = field
	}
	return unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": map[string]any{"k": value}, "status": map[string]any{"of": uid},
	}}
}

func controlled(name, uid, value string) unstructured.Unstructured {
	return object(name, uid, value, map[string]any{"ownerReferences": []any{map[string]any{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x", "controller": true}}})
}

func TestPlan(t *testing.T) {
	r := Resource{schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, true}
	now := []unstructured.Unstructured{
		object("same", "1", "a", nil), object("changed", "2", "new", nil), object("added", "3", "x", nil), controlled("made", "4", "new"),
		object("going", "5", "x", map[string]any{"deletionTimestamp": "2026-01-01T00:00:00Z"}),
	}
	then := []unstructured.Unstructured{
		object("same", "1", "a", nil), object("changed", "2", "old", map[string]any{"labels": map[string]any{"l": "1"}}),
		object("gone", "9", "g", map[string]any{"finalizers": []any{"foregroundDeletion", "mine"}}), controlled("made", "4", "old"), controlled("unmade", "8", "x"),
	}
	for _, c := range []struct {
		name  string
		prune bool
		want  []string
	}{
		{"keeps what is new", false, []string{"update configmaps/changed", "create configmaps/gone"}},
		{"removes what is new", true, []string{"delete configmaps/added", "update configmaps/changed", "create configmaps/gone"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			steps := Plan(r, now, then, c.prune)
			for i := range steps {
				got = append(got, steps[i].String())
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Fatalf("(-want +got):\n%s", d)
			}
			at := func(action Action) map[string]any {
				return steps[slices.IndexFunc(steps, func(s Step) bool { return s.Action == action })].Object.Object
			}
			// The content is the old one, the identity and status are those of now.
			want := object("changed", "2", "new", map[string]any{"labels": map[string]any{"l": "1"}})
			want.Object["data"] = map[string]any{"k": "old"}
			if d := cmp.Diff(want.Object, at(Update)); d != "" {
				t.Errorf("update (-want +got):\n%s", d)
			}
			if d := cmp.Diff(map[string]any{
				"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"k": "g"},
				"metadata": map[string]any{"name": "gone", "namespace": "ns", "finalizers": []any{"mine"}},
			}, at(Create)); d != "" {
				t.Errorf("create (-want +got):\n%s", d)
			}
		})
	}
}
