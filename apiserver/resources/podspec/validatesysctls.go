package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// sysctls refuses names that are none, and those that would change the node: a
// pod with the node's network or IPC may not set what belongs to it.
func sysctls(list []corev1.Sysctl, s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, ctl := range list {
		at := path.Index(i).Child("name")
		name := strings.ReplaceAll(ctl.Name, "/", ".")
		switch {
		case ctl.Name == "":
			errs = append(errs, field.Required(at, ""))
		case !sysctlName.MatchString(ctl.Name) || len(ctl.Name) > 253:
			errs = append(errs, field.Invalid(at, ctl.Name, fmt.Sprintf("must have at most %d characters and match regex %s", 253, sysctlName)))
		case names.Has(ctl.Name):
			errs = append(errs, field.Duplicate(at, ctl.Name))
		case s.HostNetwork && strings.HasPrefix(name, "net."):
			errs = append(errs, field.Invalid(at, ctl.Name, "may not be specified when 'hostNetwork' is true"))
		case s.HostIPC && ofIPC(name):
			errs = append(errs, field.Invalid(at, ctl.Name, "may not be specified when 'hostIPC' is true"))
		}
		names.Insert(ctl.Name)
	}
	return errs
}

// ofIPC tells whether each IPC namespace has a value of its own.
func ofIPC(name string) bool {
	return name == "kernel.sem" || strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || strings.HasPrefix(name, "fs.mqueue.")
}
