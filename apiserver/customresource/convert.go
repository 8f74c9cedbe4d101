package customresource

import (
	"fmt"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// converter turns an object into another version. It may change in.
type converter interface {
	convert(in *unstructured.Unstructured, to schema.GroupVersion) (*unstructured.Unstructured, error)
}

// sameShape is the conversion of versions that differ in name only.
type sameShape struct{}

func (sameShape) convert(in *unstructured.Unstructured, to schema.GroupVersion) (*unstructured.Unstructured, error) {
	in.SetAPIVersion(to.String())
	return in, nil
}

// accept checks what a webhook made of in, and puts the metadata back that it has
// no say in: all but labels and annotations.
func accept(i int, in, out *unstructured.Unstructured, to schema.GroupVersion) error {
	gvk := in.GroupVersionKind()
	if got := out.GroupVersionKind().GroupVersion(); got != to {
		return fmt.Errorf("conversion webhook for %v returned invalid converted object at index %d: invalid groupVersion (expected %v, received %v)", gvk, i, to, got)
	}
	if got := out.GetKind(); got != gvk.Kind {
		return fmt.Errorf("conversion webhook for %v returned invalid converted object at index %d: invalid kind (expected %v, received %v)", gvk, i, gvk.Kind, got)
	}
	for _, c := range []struct {
		name    string
		was, is any
	}{
		{"name", in.GetName(), out.GetName()}, {"namespace", in.GetNamespace(), out.GetNamespace()}, {"UID", in.GetUID(), out.GetUID()},
	} {
		if c.was != c.is {
			return fmt.Errorf("conversion webhook for %v returned invalid converted object at index %d: must have the same %s: %v != %v", gvk, i, c.name, c.was, c.is)
		}
	}
	if err := restoreMeta(in, out); err != nil {
		return fmt.Errorf("conversion webhook for %v returned invalid metadata in object at index %d: %w", gvk, i, err)
	}
	return nil
}

func restoreMeta(in, out *unstructured.Unstructured) error {
	answered, ok := out.Object["metadata"].(map[string]any)
	if !ok {
		if out.Object["metadata"] == nil {
			return fmt.Errorf("missing metadata in converted object")
		}
		return fmt.Errorf("invalid metadata of type %T in converted object", out.Object["metadata"])
	}
	meta := map[string]any{}
	if own, ok := in.Object["metadata"].(map[string]any); ok {
		meta = runtime.DeepCopyJSON(own)
	}
	out.Object["metadata"] = meta
	for _, name := range []string{"labels", "annotations"} {
		if answered[name] == nil {
			delete(meta, name)
			continue
		}
		values, ok := answered[name].(map[string]any)
		if !ok {
			return fmt.Errorf("invalid metadata.%s of type %T in converted object", name, answered[name])
		}
		texts := make(map[string]string, len(values))
		for k, v := range values {
			text, ok := v.(string)
			if !ok {
				return fmt.Errorf("metadata.%s[%s] must be a string, but is %T in converted object", name, k, v)
			}
			texts[k] = text
		}
		at := field.NewPath("metadata", name)
		errs := metav1validation.ValidateLabels(texts, at)
		if name == "annotations" {
			errs = apivalidation.ValidateAnnotations(texts, at)
		}
		if len(errs) > 0 {
			return errs.ToAggregate()
		}
		meta[name] = values
	}
	return nil
}
