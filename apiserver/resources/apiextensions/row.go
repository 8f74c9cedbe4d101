package apiextensions

import (
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver/resources/table"
)

func columns() []metav1.TableColumnDefinition {
	return table.Columns(table.Name(), table.Text("Scope", "Cluster/Namespaced"), table.Text("Versions", "Served versions"), table.CreatedAt(),
		table.Wide(table.Text("Group", "API group")), table.Wide(table.Text("Kind", "CustomResource kind")),
		table.Wide(table.Text("ShortNames", "Short names")), table.Wide(table.Bool("Established", "Established status")))
}

func row(o *crd) []any {
	var versions []string
	for _, v := range o.Spec.Versions {
		switch {
		case v.Served && v.Storage:
			versions = append(versions, v.Name+"(storage)")
		case v.Served:
			versions = append(versions, v.Name)
		}
	}
	slices.Sort(versions)
	return []any{
		o.Name, string(o.Spec.Scope), strings.Join(versions, ","), table.Created(o.CreationTimestamp),
		o.Spec.Group, o.Spec.Names.Kind, strings.Join(o.Spec.Names.ShortNames, ","), apihelpers.IsCRDConditionTrue(o, v1.Established),
	}
}
