package podspec

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
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
		errs = append(errs, trimmedImage(c, at)...)
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

// ValidateImages are the rules for images that pods have and their templates have not.
// Those of ephemeral containers are among the rules of the specification.
func ValidateImages(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range s.Containers {
		errs = append(errs, trimmedImage(&s.Containers[i], path.Child("containers").Index(i))...)
	}
	for i := range s.InitContainers {
		errs = append(errs, trimmedImage(&s.InitContainers[i], path.Child("initContainers").Index(i))...)
	}
	return errs
}

func trimmedImage(c *corev1.Container, at *field.Path) field.ErrorList {
	if strings.TrimSpace(c.Image) == c.Image {
		return nil
	}
	return field.ErrorList{field.Invalid(at.Child("image"), c.Image, "must not have leading or trailing whitespace")}
}

func (v *validator) container(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case c.Name == "":
		errs = append(errs, field.Required(at.Child("name"), ""))
	default:
		errs = append(errs, DNSLabel(c.Name, at.Child("name"))...)
		if v.names.Has(c.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		v.names.Insert(c.Name)
	}
	if c.Image == "" {
		errs = append(errs, field.Required(at.Child("image"), ""))
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
