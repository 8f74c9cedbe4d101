// Package resources declares what a resource of the API is: its names, scope,
// verbs, versions, defaults, validation, columns and subresources, as data.
//
// Each built-in group has a package below this one (resources/core,
// resources/apps, …) with one file per kind; resources/builtin lists them all.
// Discovery, OpenAPI, storage, tables, RBAC and the handlers read the same
// values, and a custom resource is such a value made at run time.
//
// Nothing here does I/O. What needs the server (token, binding, exec, …) is
// named by a Connector that the handlers provide.
package resources

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Verb sets that most resources have.
var (
	AllVerbs      = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
	ReadVerbs     = []string{"get", "list", "watch"}
	StatusVerbs   = []string{"get", "patch", "update"}
	CreateOnly    = []string{"create"}
	GetAndProxyTo = []string{"create", "delete", "get", "patch", "update"}
)

// Resource is one resource of the API. Use Declare to make one from a typed Spec.
type Resource struct {
	// Group is the API group; empty for core.
	Group string
	// Kind, ListKind, Plural and Singular are the names in discovery. Declare
	// derives ListKind ("PodList") and Singular ("pod") when empty.
	Kind, ListKind, Plural, Singular string
	ShortNames, Categories           []string
	Namespaced                       bool
	// Verbs in discovery's order; nil means AllVerbs.
	Verbs []string
	// Refused says why verbs that the resource has are not among Verbs just now.
	Refused map[string]string
	// Path is the storage prefix below /registry, where it is not Plural (core)
	// or Group-dependent as upstream's table has it: "minions", "services/specs".
	Path string
	// Hub is the version whose Go type is stored and handled; see Versions.
	Hub string
	// Versions are those that can be served, preferred first. One of them is Hub.
	Versions []Version
	// Virtual resources are not stored: they only answer create (reviews) or
	// are computed (componentstatuses); their Connector does the work.
	Virtual Connector
	// Strategy is what the kind does beyond the generic path, on hub objects.
	Strategy Strategy
	// Columns and Rows make the Table form. Nil gives Name and Created At.
	Columns []metav1.TableColumnDefinition
	// Row returns one cell for each column.
	Row func(obj runtime.Object) []any
	// SelectableFields are field selectors beyond metadata.name and
	// metadata.namespace, by label; the value is a func of the hub object.
	SelectableFields map[string]func(obj runtime.Object) string
	// Subresources by name.
	Subresources map[string]Subresource
	// NoWindow keeps no event window in the watch cache (Events).
	NoWindow bool
	// SharesStoreWith names a resource of another group that stores the same
	// objects (core Events and events.k8s.io Events).
	SharesStoreWith schema.GroupResource
	// ReturnDeleted: a delete answers with the object, not with a Status.
	ReturnDeleted bool
	// FeatureGate, when set, must be on for the resource to be served.
	FeatureGate string
	// TypeConverter knows the schemas of a custom resource for managed fields;
	// nil deduces them. Built-in kinds have the server's.
	TypeConverter func() managedfields.TypeConverter
}

// GroupResource is the resource's name across versions.
func (r *Resource) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: r.Group, Resource: r.Plural}
}

// Version is one served version of a resource.
type Version struct {
	// Name is "v1", "v1beta1", …
	Name string
	// New and NewList make empty objects of this version's Go types.
	New, NewList func() runtime.Object
	// Default fills what the API's defaulting of this version fills. It runs
	// on what a client sent, before conversion to the hub, and on what is read
	// from the store.
	Default func(obj runtime.Object)
	// ToHub and FromHub convert; nil for the hub version itself.
	ToHub, FromHub func(in runtime.Object) (runtime.Object, error)
	// FromHubAll converts many at once where that costs less than one by one: a
	// webhook is asked once. nil converts one by one.
	FromHubAll func(in []runtime.Object) ([]runtime.Object, error)
	// OffByDefault versions are served only with --runtime-config (alpha, and beta since 1.24).
	OffByDefault bool
	// Deprecated, when set, is the warning sent with each use.
	Deprecated string
	// AllowUnconditionalUpdate lets requests of this version do what the kind's
	// newer ones refuse: see Strategy.
	AllowUnconditionalUpdate bool
	// Coerce brings an untyped object into the shape of its schema: it drops
	// what the schema does not know, and tells the paths of it when track is set.
	// stored says that the object comes from the store, where malformed metadata
	// is dropped instead of refused. nil for Go types, whose decoding does that.
	Coerce func(obj runtime.Object, stored, track bool) (unknown []string, err error)
	// Columns and Row replace the resource's where a version has its own. Row
	// gets an object of this version.
	Columns []metav1.TableColumnDefinition
	Row     func(obj runtime.Object) []any
	// SelectableFields, when not nil, are those of the resource's that requests
	// of this version may select by; with SelectConverted, by objects of this
	// version instead of the hub's.
	SelectableFields map[string]func(obj runtime.Object) string
	SelectConverted  bool
	// FieldLabels, when not nil, are the labels that requests of this version
	// select by, and those of the resource's that they stand for.
	FieldLabels map[string]string
	// Unserved versions are stored or converted from, and answer no requests.
	Unserved bool
}

// Strategy is the kind's part in create, update and delete. Every func may be
// nil. Objects are of the hub type; the funcs may change obj, never old.
type Strategy struct {
	// PrepareForCreate drops what a client may not set (status) and sets what
	// the server owns. metadata is prepared by the generic path.
	PrepareForCreate func(ctx context.Context, obj runtime.Object)
	// PrepareForUpdate keeps the parts that this endpoint may not change.
	// The generic path then increments metadata.generation when
	// GenerationChanged (default: spec differs) says so.
	PrepareForUpdate func(ctx context.Context, obj, old runtime.Object)
	// Generation: whether the kind has metadata.generation; and, when not nil
	// GenerationChanged replaces "anything but metadata and status differs".
	Generation        bool
	GenerationChanged func(obj, old runtime.Object) bool
	// Validate and ValidateUpdate return every error with upstream's paths,
	// types and texts. ObjectMeta is validated by the generic path, with
	// NameValidation for the name.
	Validate       func(ctx context.Context, obj runtime.Object) field.ErrorList
	ValidateUpdate func(ctx context.Context, obj, old runtime.Object) field.ErrorList
	// NameValidation is the rule for metadata.name (and, with prefix, of
	// generateName); nil means NameIsDNSSubdomain.
	NameValidation func(name string, prefix bool) []string
	// Metadata are the kind's rules of metadata.
	Metadata MetadataRules
	// Warnings are sent in Warning headers. old is nil on create.
	Warnings func(ctx context.Context, obj, old runtime.Object) []string
	// AllowCreateOnUpdate lets PUT make an object that does not exist.
	AllowCreateOnUpdate bool
	// AllowUnconditionalUpdate lets PUT leave resourceVersion out.
	AllowUnconditionalUpdate bool
	// CheckGracefulDelete decides on graceful deletion: it may set
	// opts.GracePeriodSeconds and returns whether to delete gracefully.
	CheckGracefulDelete func(ctx context.Context, obj runtime.Object, opts *metav1.DeleteOptions) bool
	// DefaultPropagation of garbage collection when the client names none; nil
	// is background.
	DefaultPropagation *metav1.DeletionPropagation
	// ResetFields are the paths, per version, that apply must not own at this endpoint
	// (for the main resource normally "status").
	ResetFields []string
	// Decorate changes an object on its way out (e.g. fill a derived field).
	Decorate func(obj runtime.Object)
}

// MetadataRules are a kind's own rules of metadata. Without any, names are looked at
// when an object is made, and finalizers are Kubernetes' own or qualified.
type MetadataRules struct {
	// NamesOnUpdate looks at the names again on update.
	NamesOnUpdate bool
	// AnyFinalizer takes finalizers that are not qualified.
	AnyFinalizer bool
	// Last looks at metadata only when all else is valid, and lets any segment of
	// a path be a name.
	Last bool
}

// Subresource is one subresource. Either it is a view of the same object with
// a Strategy of its own (status, ephemeralcontainers, resize, approval,
// finalize), or Connect names the code that answers it (log, exec, token,
// binding, eviction, scale, proxy).
type Subresource struct {
	// Kind and the group version that discovery shows; empty means the parent's.
	Group, Version, Kind string
	Verbs                []string
	Strategy             *Strategy
	Connect              Connector
	FeatureGate          string
	// Scale tells where an untyped object keeps what its scale shows.
	Scale *ScalePaths
}

// ScalePaths are the fields of a custom resource that its Scale shows, in the hub
// version. Selector may be empty.
type ScalePaths struct{ Replicas, StatusReplicas, Selector []string }

// Connector names server code that answers a resource or subresource; the
// handlers map names to code.
type Connector string

// The connectors.
const (
	ConnectNone        Connector = ""
	ConnectScale       Connector = "scale"
	ConnectBinding     Connector = "binding"
	ConnectEviction    Connector = "eviction"
	ConnectToken       Connector = "token"
	ConnectLog         Connector = "log"
	ConnectExec        Connector = "exec"
	ConnectAttach      Connector = "attach"
	ConnectPortForward Connector = "portforward"
	ConnectProxy       Connector = "proxy"

	ConnectTokenReview               Connector = "tokenreview"
	ConnectSelfSubjectReview         Connector = "selfsubjectreview"
	ConnectSubjectAccessReview       Connector = "subjectaccessreview"
	ConnectLocalSubjectAccessReview  Connector = "localsubjectaccessreview"
	ConnectSelfSubjectAccessReview   Connector = "selfsubjectaccessreview"
	ConnectSelfSubjectRulesReview    Connector = "selfsubjectrulesreview"
	ConnectComponentStatus           Connector = "componentstatus"
	ConnectPodTemplateBindingOnCores Connector = "binding-create"
)

// Fields returns every selectable field of obj.
func (r *Resource) Fields(obj runtime.Object, meta metav1.Object) fields.Set {
	set := fields.Set{"metadata.name": meta.GetName()}
	if r.Namespaced {
		set["metadata.namespace"] = meta.GetNamespace()
	}
	for label, value := range r.SelectableFields {
		set[label] = value(obj)
	}
	return set
}
