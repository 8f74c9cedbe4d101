// Package admission is the contract between the API server's generic path and
// the admission plugins. Each plugin is a folder below this one; admission/builtin
// lists them in upstream's order, as data. Webhooks and CEL policies are plugins
// of the same shape.
package admission

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Operation is what the request does.
type Operation string

// The operations.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Attributes are what a plugin sees of a request.
type Attributes struct {
	Operation Operation
	// Kind and Resource are of the request's version.
	Kind        schema.GroupVersionKind
	Resource    schema.GroupVersionResource
	Subresource string
	Namespace   string
	// Name may be empty on a create with generateName.
	Name string
	// Collected: the object is one of a collection that is deleted. The request does
	// not name it, and neither webhooks, policies nor errors do.
	Collected bool
	// Object is the new object as the hub type, which mutating plugins may
	// change; nil on delete. For Connect it is the options object.
	Object runtime.Object
	// OldObject is the stored object as the hub type; nil on create. It must not be changed.
	OldObject runtime.Object
	// Options are the request's CreateOptions, UpdateOptions, PatchOptions or DeleteOptions.
	Options runtime.Object
	DryRun  bool
	User    user.Info
	// Convert gives Object or OldObject in another version of the same kind;
	// webhooks and policies need it.
	Convert func(obj runtime.Object, to schema.GroupVersionKind) (runtime.Object, error)
	// Default fills what the API fills in an object that has its type set; webhooks
	// and policies, which make objects anew, need it.
	Default func(obj runtime.Object)
	// TypeConverter knows how objects of Kind merge, for policies that apply
	// configurations: a custom resource merges by its definition's schema.
	TypeConverter func() managedfields.TypeConverter
	// Warn sends a Warning header; Annotate records an audit annotation.
	Warn     func(text string)
	Annotate func(key, value string)
	// AnnotateBody records one that shows some of the object, where objects are recorded.
	AnnotateBody func(key string, value func() string)
	// Observer is the chain's; it is told of what a plugin asks others.
	Observer Observer
	// Undo are called when the write that was admitted does not happen: a plugin
	// that reserved something for it (quota, addresses) adds its release here.
	Undo []func(ctx context.Context)
	// Reinvocation is set by a mutator after whose change the earlier
	// ones must see the object again (webhooks with reinvocationPolicy).
	Reinvocation Reinvocation
}

// Reinvocation is the state of the second pass over mutating plugins.
type Reinvocation struct {
	// Pass is 0 in the first pass, 1 in the second.
	Pass int
	// Requested asks for the second pass.
	Requested bool
	// State is the webhooks' own memory between the passes.
	State any
}

// GroupResource is the resource's name without version.
func (a *Attributes) GroupResource() schema.GroupResource { return a.Resource.GroupResource() }

// Plugin is an admission plugin. It is also a Mutator, a Validator or both.
type Plugin interface {
	// Name is upstream's, such as "NamespaceLifecycle".
	Name() string
	// Handles tells which operations it wants to see.
	Handles(op Operation) bool
}

// Mutator changes Attributes.Object or refuses the request. Errors should be
// API statuses (k8s.io/apimachinery/pkg/api/errors), mostly Forbidden.
type Mutator interface {
	Plugin
	Admit(ctx context.Context, a *Attributes) error
}

// Validator refuses or lets pass; it runs after all mutators and may change nothing.
type Validator interface {
	Plugin
	Validate(ctx context.Context, a *Attributes) error
}
