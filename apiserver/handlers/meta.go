package handlers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/request"
	"skiff/apiserver/resources"
)

func metaOf(obj runtime.Object) (metav1.Object, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return m, nil
}

// objectMeta copies what an accessor shows.
func objectMeta(m metav1.Object) *metav1.ObjectMeta {
	return &metav1.ObjectMeta{
		Name: m.GetName(), GenerateName: m.GetGenerateName(), Namespace: m.GetNamespace(), UID: m.GetUID(),
		ResourceVersion: m.GetResourceVersion(), Generation: m.GetGeneration(), CreationTimestamp: m.GetCreationTimestamp(),
		DeletionTimestamp: m.GetDeletionTimestamp(), DeletionGracePeriodSeconds: m.GetDeletionGracePeriodSeconds(),
		Labels: m.GetLabels(), Annotations: m.GetAnnotations(), OwnerReferences: m.GetOwnerReferences(),
		Finalizers: m.GetFinalizers(), ManagedFields: m.GetManagedFields(),
	}
}

// nameAlphabet has no vowels, as upstream's, so that no words come out.
const nameAlphabet = "bcdfghjklmnpqrstvwxz2456789"

// generatedSuffix and maxGenerated are upstream's: 5 characters behind at most 58.
const (
	generatedSuffix = 5
	maxGenerated    = 63 - generatedSuffix
)

func generateName(base string) string {
	if len(base) > maxGenerated {
		base = base[:maxGenerated]
	}
	b := make([]byte, generatedSuffix)
	for i := range b {
		b[i] = nameAlphabet[rand.IntN(len(nameAlphabet))]
	}
	return base + string(b)
}

// ensureNamespace takes the namespace from the path.
func ensureNamespace(t *Target, m metav1.Object) error {
	if !t.Resource.Namespaced {
		m.SetNamespace("")
		return nil
	}
	switch m.GetNamespace() {
	case "":
		m.SetNamespace(t.Namespace)
	case t.Namespace:
	default:
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

// wipeMeta drops what only the server sets, before anyone looks at the object.
func wipeMeta(m metav1.Object) {
	m.SetCreationTimestamp(metav1.Time{})
	m.SetUID("")
	m.SetDeletionTimestamp(nil)
	m.SetDeletionGracePeriodSeconds(nil)
	m.SetSelfLink("")
}

// prepareCreate sets what the server owns. The kind's own part comes last: it may
// look at the name and the UID.
func (a *API) prepareCreate(ctx context.Context, s *resources.Strategy, obj runtime.Object, m metav1.Object) {
	m.SetCreationTimestamp(metav1.NewTime(a.cfg.Now().Truncate(time.Second)))
	m.SetUID(uuid.NewUUID())
	m.SetResourceVersion("")
	// Kinds without a generation of the server's keep what the client says.
	if s.Generation {
		m.SetGeneration(1)
	}
	if m.GetGenerateName() != "" && m.GetName() == "" {
		m.SetName(generateName(m.GetGenerateName()))
	}
	if s.PrepareForCreate != nil {
		s.PrepareForCreate(ctx, obj)
	}
}

// invalid is the answer to validation errors. What several of the rules say is told
// once.
func (t *Target) invalid(name string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	kind := t.HubGVK().GroupKind()
	if shared := t.Resource.SharesStoreWith; shared.Resource != "" {
		// The object is that of the other group.
		kind.Group = shared.Group
	}
	return apierrors.NewInvalid(kind, name, once(errs))
}

// prepareUpdate keeps what a client may not change. obj replaces old.
func prepareUpdate(ctx context.Context, s *resources.Strategy, obj, old runtime.Object, m, oldMeta metav1.Object) {
	m.SetGeneration(oldMeta.GetGeneration())
	if s.PrepareForUpdate != nil {
		s.PrepareForUpdate(ctx, obj, old)
	}
	if m.GetUID() == "" {
		m.SetUID(oldMeta.GetUID())
	}
	if at := oldMeta.GetCreationTimestamp(); !at.IsZero() {
		m.SetCreationTimestamp(at)
	}
	if at := oldMeta.GetDeletionTimestamp(); at != nil {
		m.SetDeletionTimestamp(at)
	}
	if grace := oldMeta.GetDeletionGracePeriodSeconds(); grace != nil && m.GetDeletionGracePeriodSeconds() == nil {
		m.SetDeletionGracePeriodSeconds(grace)
	}
	if s.Generation && generationChanged(s, obj, old) {
		m.SetGeneration(oldMeta.GetGeneration() + 1)
	}
}

func generationChanged(s *resources.Strategy, obj, old runtime.Object) bool {
	if s.GenerationChanged != nil {
		return s.GenerationChanged(obj, old)
	}
	return specChanged(obj, old)
}

// specChanged tells whether anything but metadata and status differs.
func specChanged(obj, old runtime.Object) bool {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		o, ok := old.(*unstructured.Unstructured)
		if !ok {
			return true
		}
		return !equality.Semantic.DeepEqual(without(u.Object), without(o.Object))
	}
	a, b := reflect.ValueOf(obj).Elem(), reflect.ValueOf(old).Elem()
	for i := range a.NumField() {
		switch a.Type().Field(i).Name {
		case "TypeMeta", "ObjectMeta", "Status":
			continue
		}
		if !equality.Semantic.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			return true
		}
	}
	return false
}

func without(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		switch k {
		case "metadata", "status", "kind", "apiVersion":
		default:
			out[k] = v
		}
	}
	return out
}

func warn(ctx context.Context, s *resources.Strategy, obj, old runtime.Object) {
	if s.Warnings == nil {
		return
	}
	for _, text := range s.Warnings(ctx, obj, old) {
		request.Warn(ctx, text)
	}
}

// checkName is the name in the body against the one in the path.
func checkName(t *Target, m metav1.Object) error {
	switch m.GetName() {
	case t.Name:
		return nil
	case "":
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", t.Name))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", m.GetName(), t.Name))
}

// sameButManagedTimes tells whether nothing but managedFields' times differs: such a
// write is left out, so that it wakes nobody.
func sameButManagedTimes(obj, old runtime.Object) bool {
	m, err1 := metaOf(obj)
	o, err2 := metaOf(old)
	if err1 != nil || err2 != nil {
		return false
	}
	mine, theirs := m.GetManagedFields(), o.GetManagedFields()
	if len(mine) != len(theirs) {
		return false
	}
	keep := mine
	aligned := make([]metav1.ManagedFieldsEntry, len(mine))
	for i := range mine {
		aligned[i] = mine[i]
		aligned[i].Time = theirs[i].Time
	}
	m.SetManagedFields(aligned)
	same := equality.Semantic.DeepEqual(obj, old)
	if !same {
		m.SetManagedFields(keep)
	}
	return same
}
