package podspec

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

func (v *validator) containers(list []corev1.Container, at *field.Path) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	for i := range list {
		c := &list[i]
		errs = append(errs, v.container(c, at.Index(i))...)
		errs = append(errs, restart(c, at.Index(i))...)
		errs = append(errs, v.lifecycle(c, at.Index(i))...)
		errs = append(errs, v.probes(c, at.Index(i))...)
	}
	return append(errs, hostPorts(list, at)...)
}

func (v *validator) initContainers(list []corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range list {
		c, at := &list[i], at.Index(i)
		errs = append(errs, v.container(c, at)...)
		errs = append(errs, restart(c, at)...)
		if Sidecar(c) {
			errs = append(errs, v.lifecycle(c, at)...)
			errs = append(errs, v.probes(c, at)...)
			continue
		}
		for name, set := range map[string]bool{"lifecycle": c.Lifecycle != nil, "livenessProbe": c.LivenessProbe != nil,
			"readinessProbe": c.ReadinessProbe != nil, "startupProbe": c.StartupProbe != nil} {
			if set {
				errs = append(errs, field.Forbidden(at.Child(name), "may not be set for init containers without restartPolicy=Always"))
			}
		}
	}
	return errs
}

func (v *validator) ephemeral(list []corev1.EphemeralContainer, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range list {
		c, at := (*corev1.Container)(&list[i].EphemeralContainerCommon), at.Index(i)
		errs = append(errs, v.container(c, at)...)
		if target := list[i].TargetContainerName; target != "" && !slices.ContainsFunc(v.spec.Containers, func(c corev1.Container) bool { return c.Name == target }) {
			errs = append(errs, field.NotFound(at.Child("targetContainerName"), target))
		}
		refuse := func(set bool, at *field.Path) {
			if set {
				errs = append(errs, field.Forbidden(at, "cannot be set for an Ephemeral Container"))
			}
		}
		refuse(c.Ports != nil, at.Child("ports"))
		refuse(c.Resources.Limits != nil || c.Resources.Requests != nil || c.Resources.Claims != nil, at.Child("resources"))
		refuse(c.ResizePolicy != nil, at.Child("resizePolicy"))
		refuse(c.RestartPolicy != nil, at.Child("restartPolicy"))
		refuse(c.RestartPolicyRules != nil, at.Child("restartPolicyRules"))
		refuse(c.LivenessProbe != nil, at.Child("livenessProbe"))
		refuse(c.ReadinessProbe != nil, at.Child("readinessProbe"))
		refuse(c.StartupProbe != nil, at.Child("startupProbe"))
		refuse(c.Lifecycle != nil, at.Child("lifecycle"))
		for j, m := range c.VolumeMounts {
			refuse(m.SubPath != "", at.Child("volumeMounts").Index(j).Child("subPath"))
			refuse(m.SubPathExpr != "", at.Child("volumeMounts").Index(j).Child("subPathExpr"))
		}
	}
	return errs
}

func (v *validator) container(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case c.Name == "":
		errs = append(errs, field.Required(at.Child("name"), ""))
	default:
		errs = append(errs, dnsLabel(c.Name, at.Child("name"))...)
		if v.names.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		v.names.Insert(c.Name)
	}
	switch {
	case c.Image == "":
		errs = append(errs, field.Required(at.Child("image"), ""))
	case strings.TrimSpace(c.Image) != c.Image:
		errs = append(errs, field.Invalid(at.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	errs = append(errs, enum(c.ImagePullPolicy, at.Child("imagePullPolicy"), corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)...)
	errs = append(errs, listed(c.TerminationMessagePolicy, at.Child("terminationMessagePolicy"), corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, ports(c.Ports, at.Child("ports"))...)
	errs = append(errs, v.environment(c, at)...)
	errs = append(errs, v.mounts(c, at.Child("volumeMounts"))...)
	errs = append(errs, v.devices(c, at.Child("volumeDevices"))...)
	errs = append(errs, validateResources(&c.Resources, ContainerResourceName, at.Child("resources"))...)
	errs = append(errs, v.claims(c.Resources.Claims, at.Child("resources", "claims"))...)
	errs = append(errs, v.resizePolicies(c.ResizePolicy, at.Child("resizePolicy"))...)
	if s := c.SecurityContext; s != nil {
		errs = append(errs, v.containerSecurity(s, at.Child("securityContext"))...)
	}
	return errs
}

func (v *validator) lifecycle(c *corev1.Container, at *field.Path) field.ErrorList {
	l := c.Lifecycle
	if l == nil {
		return nil
	}
	var errs field.ErrorList
	if l.PostStart != nil {
		errs = append(errs, v.lifecycleHandler(l.PostStart, at.Child("lifecycle", "postStart"))...)
	}
	if l.PreStop != nil {
		errs = append(errs, v.lifecycleHandler(l.PreStop, at.Child("lifecycle", "preStop"))...)
	}
	return append(errs, v.stopSignal(l.StopSignal, at.Child("lifecycle", "stopSignal"))...)
}

func hostPorts(list []corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	used := sets.New[string]()
	for i := range list {
		for j, p := range list[i].Ports {
			if p.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
			if used.Has(key) {
				errs = append(errs, field.Duplicate(at.Index(i).Child("ports").Index(j).Child("hostPort"), key))
			}
			used.Insert(key)
		}
	}
	return errs
}

func ports(list []corev1.ContainerPort, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i, p := range list {
		at := at.Index(i)
		if p.Name != "" {
			if msgs := validation.IsValidPortName(p.Name); len(msgs) > 0 {
				for _, msg := range msgs {
					errs = append(errs, field.Invalid(at.Child("name"), p.Name, msg))
				}
			} else if names.Has(p.Name) {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names.Insert(p.Name)
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, portNumber(int(p.ContainerPort), at.Child("containerPort"))...)
		}
		if p.HostPort != 0 {
			errs = append(errs, portNumber(int(p.HostPort), at.Child("hostPort"))...)
		}
		errs = append(errs, enum(p.Protocol, at.Child("protocol"), corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
	}
	return errs
}

func portNumber(n int, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsValidPortNum(n) {
		errs = append(errs, field.Invalid(at, n, msg))
	}
	return errs
}

func (v *validator) environment(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, e := range c.Env {
		at := at.Child("env").Index(i)
		if e.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			for _, msg := range validation.IsRelaxedEnvVarName(e.Name) {
				errs = append(errs, field.Invalid(at.Child("name"), e.Name, msg))
			}
		}
		if e.ValueFrom != nil {
			errs = append(errs, v.envSource(&e, at.Child("valueFrom"))...)
		}
	}
	for i, e := range c.EnvFrom {
		list := at.Child("envFrom")
		at := list.Index(i)
		n := 0
		if e.ConfigMapRef != nil {
			n++
			errs = append(errs, objectName(e.ConfigMapRef.Name, at.Child("configMapRef", "name"))...)
		}
		if e.SecretRef != nil {
			n++
			errs = append(errs, objectName(e.SecretRef.Name, at.Child("secretRef", "name"))...)
		}
		switch {
		case n == 0:
			errs = append(errs, field.Invalid(list, "", "must specify one of: `configMapRef` or `secretRef`"))
		case n > 1:
			errs = append(errs, field.Invalid(list, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

// objectName demands the name of an object.
func objectName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return subdomain(name, at)
}

func refName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return nil
}

func (v *validator) envSource(e *corev1.EnvVar, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	s := e.ValueFrom
	n := 0
	if s.FieldRef != nil {
		n++
		errs = append(errs, fieldRef(s.FieldRef, envFields, at.Child("fieldRef"))...)
	}
	if r := s.ResourceFieldRef; r != nil {
		n++
		errs = append(errs, resourceRef(r, false, at.Child("resourceFieldRef"))...)
	}
	if r := s.ConfigMapKeyRef; r != nil {
		n++
		errs = append(errs, keyRef(r.Name, r.Key, at.Child("configMapKeyRef"))...)
	}
	if r := s.SecretKeyRef; r != nil {
		n++
		errs = append(errs, keyRef(r.Name, r.Key, at.Child("secretKeyRef"))...)
	}
	if s.FileKeyRef != nil {
		n++
		errs = append(errs, v.fileKey(s.FileKeyRef, at.Child("fileKeyRef"))...)
	}
	switch {
	case n == 0:
		errs = append(errs, field.Invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case e.Value != "":
		errs = append(errs, field.Invalid(at, "", "may not be specified when `value` is not empty"))
	case n > 1:
		errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func keyRef(name, key string, at *field.Path) field.ErrorList {
	errs := subdomain(name, at.Child("name"))
	if key == "" {
		return append(errs, field.Required(at.Child("key"), ""))
	}
	for _, msg := range validation.IsConfigMapKey(key) {
		errs = append(errs, field.Invalid(at.Child("key"), key, msg))
	}
	return errs
}

func (v *validator) mounts(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	points := sets.New[string]()
	list := at
	for i, m := range c.VolumeMounts {
		at := list.Index(i)
		if m.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		if _, ok := v.volumes[m.Name]; !ok {
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		switch {
		case m.MountPath == "":
			errs = append(errs, field.Required(at.Child("mountPath"), ""))
		case points.Has(m.MountPath):
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		points.Insert(m.MountPath)
		if slices.ContainsFunc(c.VolumeDevices, func(d corev1.VolumeDevice) bool { return d.Name == m.Name }) {
			errs = append(errs, field.Invalid(at.Child("name"), m.Name, "must not already exist in volumeDevices"))
		}
		if slices.ContainsFunc(c.VolumeDevices, func(d corev1.VolumeDevice) bool { return d.DevicePath == m.MountPath }) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must not already exist as a path in volumeDevices"))
		}
		// Clients know the paths of these without the mount's number.
		errs = append(errs, localPath(m.SubPath, list.Child("subPath"))...)
		errs = append(errs, localPath(m.SubPathExpr, list.Child("subPathExpr"))...)
		if m.SubPath != "" && m.SubPathExpr != "" {
			errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
		}
		if p := m.MountPropagation; p != nil {
			privileged := c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
			if *p == corev1.MountPropagationBidirectional && !privileged {
				errs = append(errs, field.Forbidden(list.Child("mountPropagation"), "Bidirectional mount propagation is available only to privileged containers"))
			}
			errs = append(errs, supported(*p, list.Child("mountPropagation"), corev1.MountPropagationBidirectional, corev1.MountPropagationHostToContainer, corev1.MountPropagationNone)...)
		}
		errs = append(errs, recursive(&m, list)...)
	}
	return errs
}

func (v *validator) devices(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names, paths := sets.New[string](), sets.New[string]()
	for i, d := range c.VolumeDevices {
		at := at.Index(i)
		if d.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		if names.Has(d.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "must be unique"))
		}
		if source, ok := v.volumes[d.Name]; !ok {
			errs = append(errs, field.NotFound(at.Child("name"), d.Name))
		} else if source.PersistentVolumeClaim == nil && source.Ephemeral == nil {
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		}
		if d.DevicePath == "" {
			errs = append(errs, field.Required(at.Child("devicePath"), ""))
		}
		if paths.Has(d.DevicePath) {
			errs = append(errs, field.Invalid(at.Child("devicePath"), d.DevicePath, "must be unique"))
		}
		if hasDotDot(d.DevicePath) {
			errs = append(errs, field.Invalid(at.Child("devicePath"), d.DevicePath, "can not contain backsteps ('..')"))
		}
		names.Insert(d.Name)
		paths.Insert(d.DevicePath)
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == d.Name }) {
			errs = append(errs, field.Invalid(at.Child("name"), d.Name, "must not already exist in volumeMounts"))
		}
		if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == d.DevicePath }) {
			errs = append(errs, field.Invalid(at.Child("devicePath"), d.DevicePath, "must not already exist as a path in volumeMounts"))
		}
	}
	return errs
}

// localPath is a path within a volume.
func localPath(p string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if path.IsAbs(p) {
		errs = append(errs, field.Invalid(at, p, "must be a relative path"))
	}
	return append(errs, noDotDot(p, at)...)
}

func (v *validator) containerSecurity(s *corev1.SecurityContext, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.RunAsUser != nil {
		for _, msg := range validation.IsValidUserID(*s.RunAsUser) {
			errs = append(errs, field.Invalid(at.Child("runAsUser"), *s.RunAsUser, msg))
		}
	}
	if s.RunAsGroup != nil {
		for _, msg := range validation.IsValidGroupID(*s.RunAsGroup) {
			errs = append(errs, field.Invalid(at.Child("runAsGroup"), *s.RunAsGroup, msg))
		}
	}
	if p := s.ProcMount; p != nil {
		errs = append(errs, supported(*p, at.Child("procMount"), corev1.DefaultProcMount, corev1.UnmaskedProcMount)...)
		if *p == corev1.UnmaskedProcMount && ptr.Deref(v.spec.HostUsers, true) {
			errs = append(errs, field.Invalid(at.Child("procMount"), *p, "`hostUsers` must be false to use `Unmasked`"))
		}
	}
	if s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation {
		if s.Privileged != nil && *s.Privileged {
			errs = append(errs, field.Invalid(at, s, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if s.Capabilities != nil {
			for _, c := range s.Capabilities.Add {
				if string(c) == "CAP_SYS_ADMIN" {
					errs = append(errs, field.Invalid(at, s, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
				}
			}
		}
	}
	errs = append(errs, windows(s.WindowsOptions, at.Child("windowsOptions"))...)
	errs = append(errs, appArmor(s.AppArmorProfile, at.Child("appArmorProfile"))...)
	return append(errs, validateSeccomp(s.SeccompProfile, at.Child("seccompProfile"))...)
}

func (v *validator) probes(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, kind := range []struct {
		name  string
		probe *corev1.Probe
	}{{"livenessProbe", c.LivenessProbe}, {"readinessProbe", c.ReadinessProbe}, {"startupProbe", c.StartupProbe}} {
		name, p := kind.name, kind.probe
		if p == nil {
			continue
		}
		at := at.Child(name)
		errs = append(errs, probe(p, at)...)
		if name != "readinessProbe" && p.SuccessThreshold != 1 {
			errs = append(errs, field.Invalid(at.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
		}
		if g := p.TerminationGracePeriodSeconds; g != nil {
			if name == "readinessProbe" {
				errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *g, "must not be set for readinessProbes"))
			}
			if *g <= 0 {
				errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *g, "must be greater than 0"))
			}
		}
	}
	return errs
}

func probe(p *corev1.Probe, at *field.Path) field.ErrorList {
	errs := handler(p.Exec, p.HTTPGet, p.TCPSocket, p.GRPC != nil, nil, at)
	if p.GRPC != nil && p.Exec == nil && p.HTTPGet == nil && p.TCPSocket == nil {
		errs = append(errs, portNumber(int(p.GRPC.Port), at.Child("grpc", "port"))...)
	}
	for _, f := range []struct {
		name string
		n    int32
	}{{"initialDelaySeconds", p.InitialDelaySeconds}, {"timeoutSeconds", p.TimeoutSeconds}, {"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold}, {"failureThreshold", p.FailureThreshold}} {
		errs = append(errs, NonNegativeInt(f.n, at.Child(f.name))...)
	}
	return errs
}

func (v *validator) lifecycleHandler(h *corev1.LifecycleHandler, at *field.Path) field.ErrorList {
	errs := handler(h.Exec, h.HTTPGet, h.TCPSocket, false, h.Sleep, at)
	if h.Sleep != nil {
		grace := ptr.Deref(v.spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
		if n := h.Sleep.Seconds; n < 0 || n > grace {
			errs = append(errs, field.Invalid(at.Child("sleep"), n, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", grace)))
		}
	}
	return errs
}

func handler(exec *corev1.ExecAction, get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction, grpc bool, sleep *corev1.SleepAction, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	n := 0
	count := func(set bool, name string) bool {
		if !set {
			return false
		}
		if n++; n > 1 {
			errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 handler type"))
			return false
		}
		return true
	}
	if count(exec != nil, "exec") && len(exec.Command) == 0 {
		errs = append(errs, field.Required(at.Child("exec", "command"), ""))
	}
	if count(get != nil, "httpGet") {
		at := at.Child("httpGet")
		if get.Path == "" {
			errs = append(errs, field.Required(at.Child("path"), ""))
		}
		errs = append(errs, portOrName(get.Port, at.Child("port"))...)
		errs = append(errs, enum(get.Scheme, at.Child("scheme"), corev1.URISchemeHTTP, corev1.URISchemeHTTPS)...)
		for _, h := range get.HTTPHeaders {
			for _, msg := range validation.IsHTTPHeaderName(h.Name) {
				errs = append(errs, field.Invalid(at.Child("httpHeaders"), h.Name, msg))
			}
		}
	}
	if count(tcp != nil, "tcpSocket") {
		errs = append(errs, portOrName(tcp.Port, at.Child("tcpSocket", "port"))...)
	}
	count(grpc, "grpc")
	count(sleep != nil, "sleep")
	if n == 0 {
		errs = append(errs, field.Required(at, "must specify a handler type"))
	}
	return errs
}

func portOrName(p intstr.IntOrString, at *field.Path) field.ErrorList {
	if p.Type == intstr.Int {
		return portNumber(p.IntValue(), at)
	}
	var errs field.ErrorList
	for _, msg := range validation.IsValidPortName(p.StrVal) {
		errs = append(errs, field.Invalid(at, p.StrVal, msg))
	}
	return errs
}
