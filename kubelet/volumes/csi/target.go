package csi

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"skiff/kubelet/volumes/volume"
)

// key is a volume of a driver.
type key struct{ driver, handle string }

// use is one pod's use of a volume.
type use struct{ pod, spec string }

// target is a volume of a pod, as it has to be asked of the driver.
type target struct {
	key
	// spec is the name of the persistent volume, or of the pod's inline one.
	spec             string
	pod              *v1.Pod
	ephemeral, block bool
	readOnly         bool
	fsType           string
	accessModes      []v1.PersistentVolumeAccessMode
	mountOptions     []string
	attributes       map[string]string
	// The secrets of each step; nil for none.
	stage, publish, expand *v1.SecretReference
}

// resolve reads what the request says about the volume.
func resolve(r *volume.Request) (*target, error) {
	t := &target{pod: r.Pod}
	if r.PV == nil {
		src := r.Volume.CSI
		t.spec, t.ephemeral = r.Volume.Name, true
		t.key = key{src.Driver, ephemeralHandle(string(r.Pod.UID), r.Volume.Name)}
		t.attributes = src.VolumeAttributes
		t.readOnly = src.ReadOnly != nil && *src.ReadOnly
		if src.FSType != nil {
			t.fsType = *src.FSType
		}
		if ref := src.NodePublishSecretRef; ref != nil {
			t.publish = &v1.SecretReference{Namespace: r.Pod.Namespace, Name: ref.Name}
		}
		return t, nil
	}
	src := r.PV.Spec.CSI
	if src.VolumeHandle == "" {
		return nil, fmt.Errorf("persistent volume %s: spec.csi.volumeHandle is empty", r.PV.Name)
	}
	t.spec, t.key = r.PV.Name, key{src.Driver, src.VolumeHandle}
	t.block = r.Block()
	t.readOnly, t.fsType, t.attributes = r.ReadOnly(), src.FSType, src.VolumeAttributes
	t.accessModes, t.mountOptions = r.PV.Spec.AccessModes, r.PV.Spec.MountOptions
	t.stage, t.publish, t.expand = src.NodeStageSecretRef, src.NodePublishSecretRef, src.NodeExpandSecretRef
	return t, nil
}

func (t *target) use() use { return use{pod: string(t.pod.UID), spec: t.spec} }

// ephemeralHandle names an inline volume for its driver.
func ephemeralHandle(pod, name string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(pod+name)))
}

// attachmentName is the name of the VolumeAttachment of a volume on a node.
func attachmentName(k key, node string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(k.handle+k.driver+node)))
}

// uniqueName is how the node's status names a volume.
func uniqueName(k key) v1.UniqueVolumeName {
	return v1.UniqueVolumeName("kubernetes.io/csi/" + k.driver + "^" + k.handle)
}

// rules are what a CSIDriver object asks of the kubelet, with the defaults of
// a driver that has none.
type rules struct {
	attach, podInfo, republish, selinux, tokensInSecrets bool
	fsGroup                                              storagev1.FSGroupPolicy
	tokens                                               []storagev1.TokenRequest
	modes                                                []storagev1.VolumeLifecycleMode
}

func rulesOf(d *storagev1.CSIDriver) rules {
	r := rules{attach: true, fsGroup: storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy}
	if d == nil {
		return r
	}
	is := func(b *bool) bool { return b != nil && *b }
	s := &d.Spec
	r.attach = s.AttachRequired == nil || *s.AttachRequired
	r.podInfo, r.republish, r.selinux, r.tokensInSecrets = is(s.PodInfoOnMount), is(s.RequiresRepublish), is(s.SELinuxMount), is(s.ServiceAccountTokenInSecrets)
	if s.FSGroupPolicy != nil && *s.FSGroupPolicy != "" {
		r.fsGroup = *s.FSGroupPolicy
	}
	r.tokens, r.modes = s.TokenRequests, s.VolumeLifecycleModes
	if len(r.modes) == 0 {
		r.modes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
	return r
}

// allowed says why the driver does not serve volumes of this kind.
func (r rules) allowed(t *target) error {
	mode := storagev1.VolumeLifecyclePersistent
	if t.ephemeral {
		mode = storagev1.VolumeLifecycleEphemeral
	}
	switch {
	case slices.Contains(r.modes, mode), r.modes == nil && !t.ephemeral:
		return nil
	case r.modes == nil:
		return fmt.Errorf("volume mode %q not supported by driver %s (no CSIDriver object)", mode, t.driver)
	}
	return fmt.Errorf("volume mode %q not supported by driver %s (only supports %q)", mode, t.driver, r.modes)
}

// owns reports whether the volume is to be given to the pod's group.
func (r rules) owns(t *target) bool {
	if t.block || t.readOnly || t.group() == nil {
		return false
	}
	switch r.fsGroup {
	case storagev1.NoneFSGroupPolicy:
		return false
	case storagev1.FileFSGroupPolicy:
		return true
	}
	return t.fsType != "" && (slices.Contains(t.accessModes, v1.ReadWriteOnce) || slices.Contains(t.accessModes, v1.ReadWriteOncePod))
}

func (t *target) group() *int64 {
	if t.pod.Spec.SecurityContext == nil {
		return nil
	}
	return t.pod.Spec.SecurityContext.FSGroup
}

// selinux is the mount option that labels a whole volume for the pod; "" where
// files have to be labelled one by one. The kernel takes one label per mount,
// so it has to be the only one that is wanted.
func (r rules) selinuxOption(t *target) string {
	if !r.selinux || t.block || t.ephemeral || len(t.accessModes) != 1 || t.accessModes[0] != v1.ReadWriteOncePod {
		return ""
	}
	label, err := podLabel(t.pod)
	if err != nil || label == "" {
		return ""
	}
	return fmt.Sprintf("context=%q", label)
}

var errLabels = errors.New("containers have different SELinux labels")

// podLabel is the SELinux label of the files of a pod; "" when the pod leaves
// it to the runtime.
func podLabel(pod *v1.Pod) (string, error) {
	var whole *v1.SELinuxOptions
	if pod.Spec.SecurityContext != nil {
		whole = pod.Spec.SecurityContext.SELinuxOptions
	}
	label, first := "", true
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			opts := whole
			if sc := list[i].SecurityContext; sc != nil && sc.SELinuxOptions != nil {
				opts = sc.SELinuxOptions
			}
			own := ""
			if opts != nil && opts.Level != "" {
				own = fileLabel(opts)
			}
			if !first && own != label {
				return "", errLabels
			}
			label, first = own, false
		}
	}
	return label, nil
}

// fileLabel fills in what container policies use for files.
func fileLabel(o *v1.SELinuxOptions) string {
	user, role := o.User, o.Role
	if user == "" {
		user = "system_u"
	}
	if role == "" {
		role = "object_r"
	}
	return user + ":" + role + ":container_file_t:" + o.Level
}

// SELinuxEnabled reports whether the kernel labels files.
func SELinuxEnabled() bool {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil
}
