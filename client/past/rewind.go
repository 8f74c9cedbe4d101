package past

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"
)

// Action is what a step does.
type Action string

// The actions of a rewind. None are written.
const (
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete"
)

// Step is one write of a rewind.
type Step struct {
	Resource Resource
	Action   Action
	// Object is what is written, or for a delete what is removed.
	Object unstructured.Unstructured
	// was is the content that an update brings back.
	was *unstructured.Unstructured
}

func (s *Step) String() string {
	return fmt.Sprintf("%s %s/%s", s.Action, s.Resource.Resource, s.Object.GetName())
}

// Plan are the steps that lead from the objects of a resource as they are now to
// how they were then. Objects that others made, such as a Deployment's
// ReplicaSets, are left to these. prune removes what was not there then.
func Plan(r Resource, now, then []unstructured.Unstructured, prune bool) []Step {
	var out []Step
	have := map[string]*unstructured.Unstructured{}
	for i := range now {
		have[now[i].GetName()] = &now[i]
	}
	for i := range then {
		was := &then[i]
		is := have[was.GetName()]
		delete(have, was.GetName())
		switch {
		case metav1.GetControllerOf(was) != nil, is != nil && metav1.GetControllerOf(is) != nil:
		case is == nil:
			out = append(out, Step{Resource: r, Action: Create, Object: Revive(was)})
		default:
			if next := Replace(is, was); !reflect.DeepEqual(next.Object, is.Object) {
				out = append(out, Step{Resource: r, Action: Update, Object: next, was: was})
			}
		}
	}
	if prune {
		for _, is := range have {
			if metav1.GetControllerOf(is) == nil && is.GetDeletionTimestamp() == nil {
				out = append(out, Step{Resource: r, Action: Delete, Object: *is})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Step) int { return strings.Compare(a.Object.GetName(), b.Object.GetName()) })
	return out
}

// serverFields are what the server alone writes.
var serverFields = []string{"uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields", "selfLink"}

// Revive is an object as it can be made again: a new one with the old content. Its
// owners are left out, since they are other objects by now, and the garbage
// collector would remove it at once.
func Revive(was *unstructured.Unstructured) unstructured.Unstructured {
	out := *was.DeepCopy()
	for _, field := range append(serverFields, "ownerReferences") {
		unstructured.RemoveNestedField(out.Object, "metadata", field)
	}
	unstructured.RemoveNestedField(out.Object, "status")
	// These finalizers are of the delete itself.
	out.SetFinalizers(slices.DeleteFunc(out.GetFinalizers(), func(f string) bool {
		return f == metav1.FinalizerDeleteDependents || f == metav1.FinalizerOrphanDependents
	}))
	return out
}

// Replace is the object that is, with the content of the one that was: all but
// what the server writes, the status, and the owners.
func Replace(is, was *unstructured.Unstructured) unstructured.Unstructured {
	out := *was.DeepCopy()
	for _, field := range append(serverFields, "ownerReferences", "finalizers") {
		value, ok, err := unstructured.NestedFieldCopy(is.Object, "metadata", field)
		if err != nil || !ok {
			unstructured.RemoveNestedField(out.Object, "metadata", field)
			continue
		}
		if err := unstructured.SetNestedField(out.Object, value, "metadata", field); err != nil {
			continue // metadata is a map in both
		}
	}
	if status, ok := is.Object["status"]; ok {
		out.Object["status"] = status
	} else {
		delete(out.Object, "status")
	}
	return out
}

// manager is the field manager of what is brought back.
const manager = "skiff-rewind"

// Do makes a step. dryRun lets the server check it, admission included, and write
// nothing.
func (c *Client) Do(ctx context.Context, s *Step, dryRun bool) error {
	var dry []string
	if dryRun {
		dry = []string{metav1.DryRunAll}
	}
	on := c.on(s.Resource, s.Object.GetNamespace())
	var err error
	switch s.Action {
	case Create:
		_, err = on.Create(ctx, &s.Object, metav1.CreateOptions{DryRun: dry, FieldManager: manager})
	case Update:
		err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			_, err := on.Update(ctx, &s.Object, metav1.UpdateOptions{DryRun: dry, FieldManager: manager})
			if apierrors.IsConflict(err) && s.was != nil {
				// A controller wrote meanwhile, to the status for most.
				if is, gerr := on.Get(ctx, s.Object.GetName(), metav1.GetOptions{}); gerr == nil {
					s.Object = Replace(is, s.was)
				}
			}
			return err
		})
	case Delete:
		uid := s.Object.GetUID()
		err = on.Delete(ctx, s.Object.GetName(), metav1.DeleteOptions{DryRun: dry, Preconditions: &metav1.Preconditions{UID: &uid}})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	return nil
}
