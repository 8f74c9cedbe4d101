// Package revision keeps the ControllerRevisions that DaemonSets and
// StatefulSets roll back to.
package revision

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
)

// Parent is the object whose templates are kept.
type Parent struct {
	Object metav1.Object
	Kind   schema.GroupVersionKind
}

// Patch is the stored form of a template: a strategic merge patch of the parent
// that replaces it.
func Patch(template *v1.PodTemplateSpec) ([]byte, error) {
	raw, err := json.Marshal(template)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	fields["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": fields}})
}

// Template reads a template back.
func Template(r *apps.ControllerRevision) (*v1.PodTemplateSpec, error) {
	var stored struct {
		Spec struct {
			Template v1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(r.Data.Raw, &stored); err != nil {
		return nil, fmt.Errorf("revision %s/%s: %w", r.Namespace, r.Name, err)
	}
	return &stored.Spec.Template, nil
}

// New makes the revision of a template. collisions is mixed into the hash.
func New(p Parent, template *v1.PodTemplateSpec, number int64, collisions *int32) (*apps.ControllerRevision, error) {
	raw, err := Patch(template)
	if err != nil {
		return nil, err
	}
	r := &apps.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Object.GetNamespace(), Labels: maps.Clone(template.Labels),
			Annotations:     maps.Clone(p.Object.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(p.Object, p.Kind)},
		},
		Data: runtime.RawExtension{Raw: raw}, Revision: number,
	}
	if r.Labels == nil {
		r.Labels = map[string]string{}
	}
	delete(r.Annotations, v1.LastAppliedConfigAnnotation)
	rename(p, r, collisions)
	return r, nil
}

func rename(p Parent, r *apps.ControllerRevision, collisions *int32) {
	h := fnv.New32()
	h.Write(r.Data.Raw)
	if collisions != nil {
		h.Write([]byte(strconv.FormatInt(int64(*collisions), 10)))
	}
	hash := rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
	prefix := p.Object.GetName()
	if len(prefix) > 223 {
		prefix = prefix[:223]
	}
	r.Name = prefix + "-" + hash
	r.Labels[apps.ControllerRevisionHashLabelKey] = hash
}

// Sort puts the revisions in order, eldest first.
func Sort(all []*apps.ControllerRevision) {
	slices.SortStableFunc(all, func(a, b *apps.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

// Equal says whether both hold the same template, however it was written.
func Equal(a, b *apps.ControllerRevision) bool {
	if bytes.Equal(a.Data.Raw, b.Data.Raw) {
		return true
	}
	x, err := Template(a)
	if err != nil {
		return false
	}
	y, err := Template(b)
	if err != nil {
		return false
	}
	xs, err := json.Marshal(x)
	if err != nil {
		return false
	}
	ys, err := json.Marshal(y)
	return err == nil && bytes.Equal(xs, ys)
}

// Next is the number after the newest revision; all is sorted.
func Next(all []*apps.ControllerRevision) int64 {
	if len(all) == 0 {
		return 1
	}
	return all[len(all)-1].Revision + 1
}

// Current stores the revision of the parent's template and returns it: an
// equal one that exists is used, and raised when a rollback made it the
// newest. all is sorted. The counter of collisions is returned as it is then.
func Current(ctx context.Context, client kubernetes.Interface, p Parent, template *v1.PodTemplateSpec, all []*apps.ControllerRevision, collisions *int32) (*apps.ControllerRevision, *int32, error) {
	wanted, err := New(p, template, Next(all), collisions)
	if err != nil {
		return nil, collisions, err
	}
	revisions := client.AppsV1().ControllerRevisions(wanted.Namespace)
	for i := len(all) - 1; i >= 0; i-- {
		if !Equal(all[i], wanted) {
			continue
		}
		if i == len(all)-1 {
			return all[i], collisions, nil
		}
		next := all[i].DeepCopy()
		next.Revision = wanted.Revision
		updated, err := revisions.Update(ctx, next, metav1.UpdateOptions{})
		return updated, collisions, err
	}
	for {
		made, err := revisions.Create(ctx, wanted, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return made, collisions, err
		}
		exists, err := revisions.Get(ctx, wanted.Name, metav1.GetOptions{})
		if err != nil {
			return nil, collisions, err
		}
		if metav1.IsControlledBy(exists, p.Object) && Equal(exists, wanted) {
			return exists, collisions, nil
		}
		var n int32
		if collisions != nil {
			n = *collisions
		}
		n++
		collisions = &n
		rename(p, wanted, collisions)
	}
}

// Truncate deletes the eldest revisions that are not in use beyond limit. all
// is sorted.
func Truncate(ctx context.Context, client kubernetes.Interface, all []*apps.ControllerRevision, used func(*apps.ControllerRevision) bool, limit *int32) error {
	n := 10
	if limit != nil {
		n = int(*limit)
	}
	var free []*apps.ControllerRevision
	for _, r := range all {
		if !used(r) {
			free = append(free, r)
		}
	}
	for _, r := range free[:max(0, len(free)-n)] {
		err := client.AppsV1().ControllerRevisions(r.Namespace).Delete(ctx, r.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
