package podspec

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The longest parts of a Windows user's name, in characters, and of a credential
// specification, in bytes.
const (
	longestDomain     = 256
	longestUser       = 104
	longestCredential = 64 << 10
)

var (
	controlCharacters = regexp.MustCompile(`[[:cntrl:]]+`)
	netBIOSName       = regexp.MustCompile(`^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$`)
	dnsDomain         = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-\.]{0,}[a-zA-Z0-9]){0,}$`)
	userName          = regexp.MustCompile(`^[^"/\\:;|=,\+\*\?<>@\[\]]+$`)
	onlyDotsOrSpaces  = regexp.MustCompile(`^[\. ]+$`)
)

func windows(o *corev1.WindowsSecurityContextOptions, at *field.Path) field.ErrorList {
	if o == nil {
		return nil
	}
	var errs field.ErrorList
	if name := o.GMSACredentialSpecName; name != nil {
		errs = append(errs, subdomain(*name, at.Child("gmsaCredentialSpecName"))...)
	}
	if spec := o.GMSACredentialSpec; spec != nil {
		at := at.Child("gmsaCredentialSpec")
		if *spec == "" {
			errs = append(errs, field.Invalid(at, *spec, "gmsaCredentialSpec cannot be an empty string"))
		} else if len(*spec) > longestCredential {
			errs = append(errs, field.Invalid(at, *spec, fmt.Sprintf("gmsaCredentialSpec size must be under %d KiB", longestCredential/1024)))
		}
	}
	if o.RunAsUserName != nil {
		errs = append(errs, windowsUser(*o.RunAsUserName, at.Child("runAsUserName"))...)
	}
	return errs
}

func windowsUser(text string, at *field.Path) field.ErrorList {
	switch {
	case text == "":
		return field.ErrorList{field.Invalid(at, text, "runAsUserName cannot be an empty string")}
	case controlCharacters.MatchString(text):
		return field.ErrorList{field.Invalid(at, text, "runAsUserName cannot contain control characters")}
	}
	parts := strings.Split(text, `\`)
	if len(parts) > 2 {
		return field.ErrorList{field.Invalid(at, text, `runAsUserName cannot contain more than one backslash`)}
	}
	var errs field.ErrorList
	user := parts[len(parts)-1]
	if len(parts) == 2 {
		domain := parts[0]
		if len(domain) >= longestDomain {
			errs = append(errs, field.Invalid(at, text, fmt.Sprintf("runAsUserName's Domain length must be under %d characters", longestDomain)))
		}
		if !netBIOSName.MatchString(domain) && !dnsDomain.MatchString(domain) {
			errs = append(errs, field.Invalid(at, text, "runAsUserName's Domain doesn't match the NetBios nor the DNS format"))
		}
	}
	switch {
	case user == "":
		errs = append(errs, field.Invalid(at, text, "runAsUserName's User cannot be empty"))
	case len(user) > longestUser:
		errs = append(errs, field.Invalid(at, text, fmt.Sprintf("runAsUserName's User length must not be longer than %d characters", longestUser)))
	}
	if onlyDotsOrSpaces.MatchString(user) {
		errs = append(errs, field.Invalid(at, text, `runAsUserName's User cannot contain only periods or spaces`))
	}
	if user != "" && !userName.MatchString(user) {
		errs = append(errs, field.Invalid(at, text, `runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]`))
	}
	return errs
}

// signals are those of Linux that a container may be stopped with.
func signals() []corev1.Signal {
	names := strings.Fields("SIGABRT SIGALRM SIGBUS SIGCHLD SIGCLD SIGCONT SIGFPE SIGHUP SIGILL SIGINT SIGIO SIGIOT SIGKILL SIGPIPE SIGPOLL SIGPROF " +
		"SIGPWR SIGQUIT SIGSEGV SIGSTKFLT SIGSTOP SIGSYS SIGTERM SIGTRAP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ SIGRTMIN")
	for i := 1; i <= 15; i++ {
		names = append(names, fmt.Sprintf("SIGRTMIN+%d", i))
	}
	for i := 14; i >= 1; i-- {
		names = append(names, fmt.Sprintf("SIGRTMAX-%d", i))
	}
	names = append(names, "SIGRTMAX")
	out := make([]corev1.Signal, len(names))
	for i, name := range names {
		out[i] = corev1.Signal(name)
	}
	return out
}

func (v *validator) stopSignal(s *corev1.Signal, at *field.Path) field.ErrorList {
	switch {
	case s == nil:
		return nil
	case v.spec.OS == nil:
		return field.ErrorList{field.Forbidden(at, "may not be set for containers with empty `spec.os.name`")}
	case v.spec.OS.Name == corev1.Windows:
		return supported(*s, at, corev1.SIGKILL, corev1.SIGTERM)
	}
	return supported(*s, at, signals()...)
}

// platform refuses what the system that a pod says it is for does not have.
func platform(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	if s.OS == nil {
		return nil
	}
	var errs field.ErrorList
	refuse := func(set bool, at *field.Path) {
		if set {
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("cannot be set for a %s pod", strings.ToLower(string(s.OS.Name)))))
		}
	}
	foreign := func(set bool, at *field.Path) {
		if set {
			errs = append(errs, field.Forbidden(at, "windows options cannot be set for a linux pod"))
		}
	}
	visit := func(do func(c *corev1.SecurityContext, at *field.Path)) {
		for _, list := range []struct {
			name  string
			items []corev1.Container
		}{{"initContainers", s.InitContainers}, {"containers", s.Containers}} {
			for i := range list.items {
				if c := list.items[i].SecurityContext; c != nil {
					do(c, at.Child(list.name).Index(i).Child("securityContext"))
				}
			}
		}
		for i := range s.EphemeralContainers {
			if c := s.EphemeralContainers[i].SecurityContext; c != nil {
				do(c, at.Child("ephemeralContainers").Index(i).Child("securityContext"))
			}
		}
	}
	pod, in := s.SecurityContext, at.Child("securityContext")
	switch s.OS.Name {
	case corev1.Linux:
		if pod != nil {
			foreign(pod.WindowsOptions != nil, in.Child("windowsOptions"))
		}
		visit(func(c *corev1.SecurityContext, at *field.Path) {
			foreign(c.WindowsOptions != nil, at.Child("windowsOptions"))
		})
	case corev1.Windows:
		if s.Resources != nil {
			errs = append(errs, field.Forbidden(at.Child("resources"), "may not be set for a windows pod"))
		}
		refuse(s.HostUsers != nil, at.Child("hostUsers"))
		refuse(s.HostPID, at.Child("hostPID"))
		refuse(s.HostIPC, at.Child("hostIPC"))
		refuse(s.ShareProcessNamespace != nil, at.Child("shareProcessNamespace"))
		if pod != nil {
			refuse(pod.AppArmorProfile != nil, in.Child("appArmorProfile"))
			refuse(pod.SELinuxOptions != nil, in.Child("seLinuxOptions"))
			refuse(pod.SeccompProfile != nil, in.Child("seccompProfile"))
			refuse(pod.FSGroup != nil, in.Child("fsGroup"))
			refuse(pod.FSGroupChangePolicy != nil, in.Child("fsGroupChangePolicy"))
			refuse(len(pod.Sysctls) > 0, in.Child("sysctls"))
			refuse(pod.RunAsUser != nil, in.Child("runAsUser"))
			refuse(pod.RunAsGroup != nil, in.Child("runAsGroup"))
			refuse(pod.SupplementalGroups != nil, in.Child("supplementalGroups"))
			refuse(pod.SupplementalGroupsPolicy != nil, in.Child("supplementalGroupsPolicy"))
		}
		visit(func(c *corev1.SecurityContext, at *field.Path) {
			refuse(c.AppArmorProfile != nil, at.Child("appArmorProfile"))
			refuse(c.SELinuxOptions != nil, at.Child("seLinuxOptions"))
			refuse(c.SeccompProfile != nil, at.Child("seccompProfile"))
			refuse(c.Capabilities != nil, at.Child("capabilities"))
			refuse(c.ReadOnlyRootFilesystem != nil, at.Child("readOnlyRootFilesystem"))
			refuse(c.Privileged != nil, at.Child("privileged"))
			refuse(c.AllowPrivilegeEscalation != nil, at.Child("allowPrivilegeEscalation"))
			refuse(c.ProcMount != nil, at.Child("procMount"))
			refuse(c.RunAsUser != nil, at.Child("runAsUser"))
			refuse(c.RunAsGroup != nil, at.Child("runAsGroup"))
		})
	}
	return errs
}

// hostProcess: all of a Windows pod's containers are processes of the host, or none is.
func hostProcess(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	podWide := s.SecurityContext != nil && s.SecurityContext.WindowsOptions != nil && s.SecurityContext.WindowsOptions.HostProcess != nil
	isPod := podWide && *s.SecurityContext.WindowsOptions.HostProcess
	var errs field.ErrorList
	var is, isNot []bool
	for _, list := range []struct {
		name  string
		items []corev1.Container
	}{{"containers", s.Containers}, {"initContainers", s.InitContainers}} {
		for i := range list.items {
			own := isPod
			if c := list.items[i].SecurityContext; c != nil && c.WindowsOptions != nil && c.WindowsOptions.HostProcess != nil {
				own = *c.WindowsOptions.HostProcess
				if podWide && own != isPod {
					errs = append(errs, field.Invalid(at.Child(list.name).Index(i).Child("securityContext", "windowsOptions", "hostProcess"), own,
						fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", isPod)))
				}
			}
			if own {
				is = append(is, true)
			} else {
				isNot = append(isNot, true)
			}
		}
	}
	if len(is) == 0 {
		return errs
	}
	if len(isNot) > 0 {
		errs = append(errs, field.Invalid(at, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers"))
	}
	if !s.HostNetwork {
		errs = append(errs, field.Invalid(at.Child("hostNetwork"), false, "hostNetwork must be true if pod contains any hostProcess containers"))
	}
	return errs
}

// The amounts that a resource of a container may be counted in.
var byteDivisors = sets.New("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")

func divisor(r *corev1.ResourceFieldSelector, at *field.Path) field.ErrorList {
	if r.Divisor.IsZero() {
		return nil
	}
	got := r.Divisor.String()
	const sizes = "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the "
	refuse := func(text string) field.ErrorList {
		return field.ErrorList{field.Invalid(at.Child("divisor"), r.Resource, text)}
	}
	_, name, _ := strings.Cut(r.Resource, ".")
	switch {
	case name == "cpu" && got != "1m" && got != "1":
		return refuse("only divisor's values 1m and 1 are supported with the cpu resource")
	case name == "memory" && !byteDivisors.Has(got):
		return refuse(sizes + "memory resource")
	case name == "ephemeral-storage" && !byteDivisors.Has(got):
		return refuse(sizes + "local ephemeral storage resource")
	case strings.HasPrefix(name, "hugepages-") && !byteDivisors.Has(got):
		return refuse(sizes + "hugepages resource")
	}
	return nil
}

// fileKey is a variable that a file of a volume gives.
func (v *validator) fileKey(r *corev1.FileKeySelector, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Key == "" {
		errs = append(errs, field.Required(at.Child("key"), ""))
	} else {
		for _, msg := range validation.IsRelaxedEnvVarName(r.Key) {
			errs = append(errs, field.Invalid(at.Child("key"), r.Key, msg))
		}
		if len(r.Key) > 128 {
			errs = append(errs, field.TooLong(at.Child("key"), r.Key, 128))
		}
	}
	if r.VolumeName == "" {
		errs = append(errs, field.Required(at.Child("volumeName"), ""))
	} else {
		errs = append(errs, DNSLabel(r.VolumeName, at.Child("volumeName"))...)
	}
	errs = append(errs, filePath(r.Path, at.Child("path"))...)
	if source, ok := v.volumes[r.VolumeName]; !ok {
		errs = append(errs, field.NotFound(at.Child("volumeName"), r.VolumeName))
	} else if source.EmptyDir == nil {
		errs = append(errs, field.Invalid(at.Child("volumeName"), r.VolumeName, "must be an emptyDir volume"))
	}
	return errs
}
