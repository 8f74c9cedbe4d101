package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/store"
)

// optionsScheme converts query parameters into option types.
var optionsScheme = newOptionsScheme()

func newOptionsScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	return s
}

// decodeQuery reads options from the query.
func decodeQuery[T any](q url.Values, into *T) error {
	if len(q) == 0 {
		return nil
	}
	if err := optionsScheme.Convert(&q, into, nil); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return nil
}

func invalidOptions(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

func createOptions(r *http.Request) (*metav1.CreateOptions, error) {
	o := &metav1.CreateOptions{}
	if err := decodeQuery(r.URL.Query(), o); err != nil {
		return nil, err
	}
	return o, invalidOptions("CreateOptions", validation.ValidateCreateOptions(o))
}

func updateOptions(r *http.Request) (*metav1.UpdateOptions, error) {
	o := &metav1.UpdateOptions{}
	if err := decodeQuery(r.URL.Query(), o); err != nil {
		return nil, err
	}
	return o, invalidOptions("UpdateOptions", validation.ValidateUpdateOptions(o))
}

func patchOptions(r *http.Request, t types.PatchType) (*metav1.PatchOptions, error) {
	o := &metav1.PatchOptions{}
	if err := decodeQuery(r.URL.Query(), o); err != nil {
		return nil, err
	}
	return o, invalidOptions("PatchOptions", validation.ValidatePatchOptions(o, t))
}

// deleteOptions are in the body, or in the query when there is none.
func (a *API) deleteOptions(r *http.Request) (*metav1.DeleteOptions, error) {
	o := &metav1.DeleteOptions{}
	b, err := a.readBody(r)
	if err != nil {
		return nil, err
	}
	if len(b) > 0 {
		format, err := bodyFormat(r)
		if err != nil {
			return nil, err
		}
		if err := decodeDeleteOptions(format, b, o); err != nil {
			return nil, err
		}
	} else if err := decodeQuery(r.URL.Query(), o); err != nil {
		return nil, err
	}
	return o, invalidOptions("DeleteOptions", validation.ValidateDeleteOptions(o))
}

// decodeDeleteOptions takes DeleteOptions of any group's version, since each
// registers them.
func decodeDeleteOptions(format string, b []byte, o *metav1.DeleteOptions) error {
	if format == formatProto {
		var unk runtime.Unknown
		if !bytes.HasPrefix(b, []byte("k8s\x00")) {
			return apierrors.NewBadRequest(errNoProto.Error())
		}
		if err := unk.Unmarshal(b[4:]); err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		if err := o.Unmarshal(unk.Raw); err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		return nil
	}
	doc, _, err := bodyJSON(format, b)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	got, err := typeOf(doc, schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"})
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if got.Kind != "DeleteOptions" {
		return apierrors.NewBadRequest(fmt.Sprintf("no kind %q is registered for version %q in scheme %q", got.Kind, got.GroupVersion(), schemeName))
	}
	if err := unmarshalPreserving(doc, o); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return nil
}

// listOptions are those of list, watch and deletecollection.
func listOptions(r *http.Request, t *Target) (*metav1.ListOptions, store.Predicate, error) {
	o := &metav1.ListOptions{}
	pred := store.Predicate{Namespace: t.Namespace}
	if err := decodeQuery(r.URL.Query(), o); err != nil {
		return nil, pred, err
	}
	if errs := validateListOptions(o); len(errs) > 0 {
		return nil, pred, invalidOptions("ListOptions", errs)
	}
	if o.LabelSelector != "" {
		sel, err := labels.Parse(o.LabelSelector)
		if err != nil {
			return nil, pred, apierrors.NewBadRequest(err.Error())
		}
		pred.Labels = sel
	}
	if o.FieldSelector != "" {
		sel, err := fields.ParseSelector(o.FieldSelector)
		if err != nil {
			return nil, pred, apierrors.NewBadRequest(err.Error())
		}
		sel, err = sel.Transform(func(label, value string) (string, string, error) {
			own, ok := t.fieldLabel(label)
			if !ok {
				return "", "", errors.New(t.unselectable(label))
			}
			return own, value, nil
		})
		if err != nil {
			return nil, pred, apierrors.NewBadRequest(err.Error())
		}
		if t.Version.SelectConverted {
			pred.Slow = t.selectConverted(sel)
		} else {
			pred.Fields = sel
		}
	}
	if t.Name != "" {
		sel := fields.OneTermEqualSelector("metadata.name", t.Name)
		if pred.Fields != nil {
			if name, ok := pred.Fields.RequiresExactMatch("metadata.name"); ok && name != t.Name {
				return nil, pred, apierrors.NewBadRequest("fieldSelector metadata.name doesn't match requested name")
			}
			sel = fields.AndSelectors(sel, pred.Fields)
		}
		pred.Fields = sel
	}
	return o, pred, nil
}

// unselectable is the text for a field that nothing selects by.
func (t *Target) unselectable(label string) string {
	if len(t.selectableFields()) > 0 {
		return "field label not supported: " + label
	}
	return fmt.Sprintf("%q is not a known field selector: only %q, %q", label, "metadata.name", "metadata.namespace")
}

// fieldLabel is the resource's name of a field that requests may select by.
func (t *Target) fieldLabel(label string) (string, bool) {
	if label == "metadata.name" || label == "metadata.namespace" {
		return label, true
	}
	if t.Version.FieldLabels != nil {
		own, ok := t.Version.FieldLabels[label]
		return own, ok
	}
	_, ok := t.selectableFields()[label]
	return label, ok
}

func (t *Target) selectableFields() map[string]func(runtime.Object) string {
	if t.Version.SelectableFields != nil {
		return t.Version.SelectableFields
	}
	return t.Resource.SelectableFields
}

// selectConverted matches objects in the request's version. One that cannot be
// converted is selected: reading it tells why.
func (t *Target) selectConverted(sel fields.Selector) func(*store.Item) bool {
	return func(it *store.Item) bool {
		obj, err := it.Object()
		if err == nil && t.Version.FromHub != nil {
			obj, err = t.Version.FromHub(obj)
		}
		if err != nil {
			return true
		}
		m, err := meta.Accessor(obj)
		if err != nil {
			return true
		}
		set := fields.Set{"metadata.name": m.GetName(), "metadata.namespace": m.GetNamespace()}
		for label, value := range t.Version.SelectableFields {
			set[label] = value(obj)
		}
		return sel.Matches(set)
	}
}

// validateListOptions is upstream's rule of which options go together.
func validateListOptions(o *metav1.ListOptions) field.ErrorList {
	var errs field.ErrorList
	match, at := o.ResourceVersionMatch, field.NewPath("resourceVersionMatch")
	const onContinue = "resourceVersionMatch is forbidden when continue is provided"
	if o.Watch {
		if o.SendInitialEvents != nil && match != metav1.ResourceVersionMatchNotOlderThan {
			errs = append(errs, field.Forbidden(at, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
		}
		if match != "" && o.SendInitialEvents == nil {
			errs = append(errs, field.Forbidden(at, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
		}
		if match != "" && match != metav1.ResourceVersionMatchNotOlderThan {
			errs = append(errs, field.NotSupported(at, match, []metav1.ResourceVersionMatch{metav1.ResourceVersionMatchNotOlderThan}))
		}
		if o.Continue != "" {
			errs = append(errs, field.Forbidden(at, onContinue))
		}
		return errs
	}
	if match != "" {
		if o.ResourceVersion == "" {
			errs = append(errs, field.Forbidden(at, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
		}
		if o.Continue != "" {
			errs = append(errs, field.Forbidden(at, onContinue))
		}
		if match != metav1.ResourceVersionMatchExact && match != metav1.ResourceVersionMatchNotOlderThan {
			errs = append(errs, field.NotSupported(at, match, []string{string(metav1.ResourceVersionMatchExact), string(metav1.ResourceVersionMatchNotOlderThan), ""}))
		}
		if match == metav1.ResourceVersionMatchExact && o.ResourceVersion == "0" {
			errs = append(errs, field.Forbidden(at, `resourceVersionMatch "exact" is forbidden for resourceVersion "0"`))
		}
	}
	if o.SendInitialEvents != nil {
		errs = append(errs, field.Forbidden(field.NewPath("sendInitialEvents"), "sendInitialEvents is forbidden for list"))
	}
	return errs
}

// dryRun tells whether a write is only tried.
func dryRun(values []string) bool { return len(values) > 0 }

// managerName is who a write is recorded for in managedFields.
func managerName(given string, r *http.Request) string {
	if given != "" {
		return given
	}
	name, _, _ := strings.Cut(r.UserAgent(), "/")
	if len(name) > 128 {
		name = name[:128]
	}
	if name == "" {
		return "unknown"
	}
	return name
}
