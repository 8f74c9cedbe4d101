package past

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// Client reads the past and writes objects.
type Client struct {
	dynamic   dynamic.Interface
	discovery discovery.DiscoveryInterface
}

// New makes a client.
func New(c *rest.Config) (*Client, error) {
	c = rest.CopyConfig(c)
	c.ContentConfig = rest.ContentConfig{} // JSON, which dynamic clients decode
	dyn, err := dynamic.NewForConfig(c)
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(c)
	if err != nil {
		return nil, err
	}
	return &Client{dynamic: dyn, discovery: disco}, nil
}

// Resource is a resource as the server has it.
type Resource struct {
	schema.GroupVersionResource
	Namespaced bool
}

// Resolve finds a resource by what kubectl takes: plural, singular, short name,
// kind, or plural.group.
func (c *Client) Resolve(text string) (Resource, error) {
	lists, err := c.discovery.ServerPreferredResources()
	if err != nil && len(lists) == 0 {
		return Resource{}, err
	}
	name, group, qualified := strings.Cut(strings.ToLower(text), ".")
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return Resource{}, err
		}
		if qualified && gv.Group != group {
			continue
		}
		for _, r := range list.APIResources {
			if name == r.Name || name == r.SingularName || name == strings.ToLower(r.Kind) || slices.Contains(r.ShortNames, name) {
				return Resource{gv.WithResource(r.Name), r.Namespaced}, nil
			}
		}
	}
	return Resource{}, fmt.Errorf("the server has no resource %q: see `kubectl api-resources`", text)
}

// Rewindable are the resources of namespaces that can be listed, made and changed,
// but for what the cluster makes by itself.
func (c *Client) Rewindable() ([]Resource, error) {
	lists, err := c.discovery.ServerPreferredNamespacedResources()
	if err != nil && len(lists) == 0 {
		return nil, err
	}
	var out []Resource
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			if made(schema.GroupResource{Group: gv.Group, Resource: r.Name}) || strings.Contains(r.Name, "/") {
				continue
			}
			verbs := true
			for _, verb := range []string{"list", "create", "update"} {
				verbs = verbs && slices.Contains(r.Verbs, verb)
			}
			if verbs {
				out = append(out, Resource{gv.WithResource(r.Name), true})
			}
		}
	}
	// What others refer to comes first.
	first := []string{"serviceaccounts", "secrets", "configmaps", "persistentvolumeclaims", "roles", "rolebindings", "services"}
	slices.SortStableFunc(out, func(a, b Resource) int { return place(first, a.Resource) - place(first, b.Resource) })
	return out, nil
}

func place(list []string, name string) int {
	if i := slices.Index(list, name); i >= 0 {
		return i
	}
	return len(list)
}

// made tells that the cluster writes the resource's objects by itself.
func made(gr schema.GroupResource) bool {
	switch gr.String() {
	case "events", "events.events.k8s.io", "leases.coordination.k8s.io", "endpoints", "endpointslices.discovery.k8s.io",
		"controllerrevisions.apps", "pods", "podmetrics.metrics.k8s.io":
		return true
	}
	return false
}

// ask reads the past of a resource.
func (c *Client) ask(ctx context.Context, r Resource, namespace string, params map[string]string) (*History, error) {
	req := c.discovery.RESTClient().Get().AbsPath(Path).Param("group", r.Group).Param("version", r.Version).Param("resource", r.Resource)
	if r.Namespaced && namespace != "" {
		req = req.Param("namespace", namespace)
	}
	for key, value := range params {
		req = req.Param(key, value)
	}
	res := req.Do(ctx)
	if err := res.Error(); err != nil { // with the server's own words
		return nil, err
	}
	b, err := res.Raw()
	if err != nil {
		return nil, err
	}
	out := &History{}
	if err := json.Unmarshal(b, out); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", Path, err)
	}
	return out, nil
}

// Changes are the kept writes of an object, oldest first.
func (c *Client) Changes(ctx context.Context, r Resource, namespace, name string) (*History, error) {
	return c.ask(ctx, r, namespace, map[string]string{"name": name})
}

// Deleted are the objects that are gone.
func (c *Client) Deleted(ctx context.Context, r Resource, namespace string) (*History, error) {
	return c.ask(ctx, r, namespace, map[string]string{"deleted": "true"})
}

// At is the state of a namespace, or of one object where name is given, at a
// revision or time.
func (c *Client) At(ctx context.Context, r Resource, namespace, name, at string) (*History, error) {
	params := map[string]string{"at": at}
	if name != "" {
		params["name"] = name
	}
	return c.ask(ctx, r, namespace, params)
}

// Now are the objects as they are.
func (c *Client) Now(ctx context.Context, r Resource, namespace, name string) ([]unstructured.Unstructured, error) {
	o := metav1.ListOptions{}
	if name != "" {
		o.FieldSelector = "metadata.name=" + name
	}
	list, err := c.on(r, namespace).List(ctx, o)
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (c *Client) on(r Resource, namespace string) dynamic.ResourceInterface {
	if r.Namespaced {
		return c.dynamic.Resource(r.GroupVersionResource).Namespace(namespace)
	}
	return c.dynamic.Resource(r.GroupVersionResource)
}

// Decode is the object of an item.
func (o *Object) Decode() (unstructured.Unstructured, error) {
	u := unstructured.Unstructured{}
	err := u.UnmarshalJSON(o.Object)
	return u, err
}
