// Package ownerwatch is the one watch by which the garbage collector follows the
// owners of every object: a watch for each of a thousand custom resources would
// cost a stack of goroutines and buffers each, on both sides.
package ownerwatch

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Path is where the server answers. It is no part of Kubernetes' API, and other
// servers do not have it. Who asks needs the right to get this path, and to list
// and to watch every resource of every group.
//
// The answer is Frames, one JSON document a line, until the client leaves or the
// server cannot go on; the client then asks again and gets everything anew.
const Path = "/skiff/v1/owners"

// Kind says what a Frame means.
type Kind string

// The kinds of frames. A resource comes as List, its objects as Put, and Listed:
// what else the client knows of the resource is gone. Later changes are Put and
// Delete. Resources that come together end with Synced.
const (
	List   Kind = "list"
	Listed Kind = "listed"
	Put    Kind = "put"
	Delete Kind = "delete"
	// Gone: the resource is not served any more.
	Gone   Kind = "gone"
	Synced Kind = "synced"
)

// Frame is one message.
type Frame struct {
	Kind Kind `json:"kind"`
	// Number stands for a resource from its List on, in this answer only.
	Number int `json:"number,omitempty"`
	// Resource is set in List.
	Resource *Resource `json:"resource,omitempty"`
	// Object is set in Put and Delete.
	Object *Object `json:"object,omitempty"`
}

// Resource is a resource in a version that is served.
type Resource struct {
	Group    string `json:"group,omitempty"`
	Version  string `json:"version"`
	Resource string `json:"resource"`
	Kind     string `json:"kind"`
	// Namespaced is its scope.
	Namespaced bool `json:"namespaced,omitempty"`
}

// GVR is the resource.
func (r *Resource) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource}
}

// GVK is the kind.
func (r *Resource) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}
}

// Object is what garbage collection looks at.
type Object struct {
	UID        types.UID               `json:"uid"`
	Namespace  string                  `json:"namespace,omitempty"`
	Name       string                  `json:"name,omitempty"`
	Owners     []metav1.OwnerReference `json:"owners,omitempty"`
	Finalizers []string                `json:"finalizers,omitempty"`
	Deletion   *metav1.Time            `json:"deletion,omitempty"`
}

// Of is what there is to look at of an object.
func Of(m metav1.Object) *Object {
	return &Object{
		UID: m.GetUID(), Namespace: m.GetNamespace(), Name: m.GetName(), Owners: m.GetOwnerReferences(),
		Finalizers: m.GetFinalizers(), Deletion: m.GetDeletionTimestamp(),
	}
}

// Metadata is the object as a watch of metadata shows it.
func (o *Object) Metadata() *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		UID: o.UID, Namespace: o.Namespace, Name: o.Name, OwnerReferences: o.Owners, Finalizers: o.Finalizers, DeletionTimestamp: o.Deletion,
	}}
}
