// Package apiserverinternal declares the kinds of internal.apiserver.k8s.io.
package apiserverinternal

import (
	"fmt"
	"strings"

	v1alpha1 "k8s.io/api/apiserverinternal/v1alpha1"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

type version = v1alpha1.StorageVersion

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	r := resources.Kind(v1alpha1.GroupName, "StorageVersion", "storageversions", false)
	r.Hub = "v1alpha1"
	hub := resources.HubVersion[version]("v1alpha1", resources.Empty[v1alpha1.StorageVersionList], nil)
	hub.OffByDefault = true
	r.Versions = []resources.Version{hub}
	r.Columns = table.Columns(table.Name(), table.Text("CommonEncodingVersion", "The version that all servers store."),
		table.Text("StorageVersions", "The version that each server stores."), table.Age())
	main, view := resources.SpecStatus(resources.TypedStrategy[version, *version]{Metadata: resources.MetadataRules{AnyFinalizer: true}},
		func(o *version) *v1alpha1.StorageVersionSpec { return &o.Spec },
		func(o *version) *v1alpha1.StorageVersionStatus { return &o.Status })
	return []resources.Resource{resources.Declare(resources.Spec[version, *version]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *version) []any {
			encoding := "<unset>"
			if v := o.Status.CommonEncodingVersion; v != nil {
				encoding = *v
			}
			list := make([]string, len(o.Status.StorageVersions))
			for i, s := range o.Status.StorageVersions {
				list[i] = fmt.Sprintf("%s=%s", s.APIServerID, s.EncodingVersion)
			}
			all := "<unset>"
			if len(list) > 0 {
				all = strings.Join(list, ",")
			}
			return []any{o.Name, encoding, all, table.Since(o.CreationTimestamp)}
		},
	})}
}
