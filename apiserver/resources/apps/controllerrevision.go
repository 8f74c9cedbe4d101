package apps

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

func controllerRevisions() resources.Resource {
	r := namespaced("ControllerRevision", "controllerrevisions")
	r.Categories = nil
	r.Versions = []resources.Version{resources.HubVersion[appsv1.ControllerRevision]("v1", resources.Empty[appsv1.ControllerRevisionList], nil)}
	r.Columns = table.Columns(table.Name(), table.Text("Controller", "What the revision is of."),
		table.Text("Revision", "The revision's number."), table.Age())
	return resources.Declare(resources.Spec[appsv1.ControllerRevision, *appsv1.ControllerRevision]{
		Resource: r,
		Strategy: resources.TypedStrategy[appsv1.ControllerRevision, *appsv1.ControllerRevision]{
			Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
			AllowUnconditionalUpdate: true,
			Validate:                 validateControllerRevision,
			ValidateUpdate:           validateControllerRevisionUpdate,
		},
		Row: func(c *appsv1.ControllerRevision) []any {
			owner := "<none>"
			if ref := metav1.GetControllerOf(c); ref != nil {
				gv, err := schema.ParseGroupVersion(ref.APIVersion)
				if err == nil {
					owner = strings.ToLower(ref.Kind) + "." + gv.Group + "/" + ref.Name
					if gv.Group == "" {
						owner = strings.ToLower(ref.Kind) + "/" + ref.Name
					}
				}
			}
			return []any{c.Name, owner, c.Revision, table.Since(c.CreationTimestamp)}
		},
	})
}
