// Package apps declares the kinds of the apps group, one file each.
package apps

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"skiff/apiserver/resources"
)

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

// labelsFromTemplate gives an object without labels those of its pod template.
func labelsFromTemplate(meta *metav1.ObjectMeta, template map[string]string) {
	if len(meta.Labels) == 0 && len(template) > 0 {
		meta.Labels = labels.Merge(nil, template)
	}
}
