// Package apps declares the kinds of the apps group, one file each.
package apps

import "skiff/apiserver/resources"

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{
		controllerRevisions(), daemonSets(), deployments(), replicaSets(), statefulSets(),
	}
}

func namespaced(kind, plural string, short ...string) resources.Resource {
	r := resources.Resource{
		Group: "apps", Kind: kind, Plural: plural, ShortNames: short, Namespaced: true, Path: plural, Hub: "v1",
		Categories: []string{"all"},
	}
	return r
}
