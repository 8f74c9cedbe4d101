package customresource

import (
	"slices"
	"strings"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"skiff/apiserver/resources"
)

// Served is a custom resource with the versions that answer requests.
type Served struct {
	Resource *resources.Resource
	Versions []string
}

// Served are all custom resources, by group and name.
func (c *Controller) Served() []Served {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Served, 0, len(c.served))
	for _, s := range c.served {
		out = append(out, Served{Resource: s.res, Versions: s.kind.served()})
	}
	slices.SortFunc(out, func(a, b Served) int {
		return strings.Compare(a.Resource.Group+"/"+a.Resource.Plural, b.Resource.Group+"/"+b.Resource.Plural)
	})
	return out
}

// cutName takes "PLURAL.GROUP" apart.
func cutName(name string) (plural, group string, ok bool) { return strings.Cut(name, ".") }

func namesEqual(a, b v1.CustomResourceDefinitionNames) bool {
	return equality.Semantic.DeepEqual(a, b)
}

// sameStored: objects may be stored in the same versions.
func sameStored(a, b *v1.CustomResourceDefinition) bool {
	return slices.Equal(a.Status.StoredVersions, b.Status.StoredVersions)
}
