package podtolerationrestriction

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// covers tells whether wide tolerates all that narrow does.
func covers(wide, narrow v1.Toleration) bool {
	if equality.Semantic.DeepEqual(wide, narrow) {
		return true
	}
	exists := wide.Operator == v1.TolerationOpExists
	switch {
	case wide.Key != narrow.Key && (wide.Key != "" || !exists):
		return false
	case wide.Effect != narrow.Effect && wide.Effect != "":
		return false
	case wide.Effect == v1.TaintEffectNoExecute && wide.TolerationSeconds != nil &&
		(narrow.TolerationSeconds == nil || *narrow.TolerationSeconds > *wide.TolerationSeconds):
		return false
	case exists:
		return true
	case wide.Operator == v1.TolerationOpEqual || wide.Operator == "":
		return (narrow.Operator == v1.TolerationOpEqual || narrow.Operator == "") && wide.Value == narrow.Value
	}
	return false
}

// merge is both lists without what others in them cover; of equal ones the first stays.
func merge(first, second []v1.Toleration) []v1.Toleration {
	all := append(append([]v1.Toleration(nil), first...), second...)
	var out []v1.Toleration
next:
	for i, t := range all {
		if covered(t, out) {
			continue
		}
		for _, later := range all[i+1:] {
			if !equality.Semantic.DeepEqual(t, later) && covers(later, t) {
				continue next
			}
		}
		out = append(out, t)
	}
	return out
}
