// Package batch declares the kinds of the batch group, one file each.
package batch

import "skiff/apiserver/resources"

// Resources are the kinds of the group.
func Resources() []resources.Resource { return []resources.Resource{cronJobs(), jobs()} }

func namespaced(kind, plural string, short ...string) resources.Resource {
	return resources.Resource{
		Group: "batch", Kind: kind, Plural: plural, ShortNames: short, Namespaced: true, Path: plural, Hub: "v1",
		Categories: []string{"all"},
	}
}
