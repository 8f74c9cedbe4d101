package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What is said of kinds of volumes that are no more.
const (
	photonGone  = "deprecated in v1.11, non-functional in v1.16+"
	scaleGone   = "deprecated in v1.16, non-functional in v1.22+"
	in122       = "deprecated in v1.22, non-functional in v1.25+"
	glusterGone = "deprecated in v1.25, non-functional in v1.26+"
	in128       = "deprecated in v1.28, non-functional in v1.31+"
)

// volume warns of kinds of volumes that are no more.
func (w *told) volume(v *corev1.Volume, at *field.Path) {
	for _, k := range []struct {
		is         bool
		name, text string
	}{
		{v.PhotonPersistentDisk != nil, "photonPersistentDisk", photonGone},
		{v.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"},
		{v.ScaleIO != nil, "scaleIO", scaleGone},
		{v.Flocker != nil, "flocker", in122},
		{v.StorageOS != nil, "storageOS", in122},
		{v.Quobyte != nil, "quobyte", in122},
		{v.Glusterfs != nil, "glusterfs", glusterGone},
		{v.CephFS != nil, "cephfs", in128},
		{v.RBD != nil, "rbd", in128},
	} {
		if k.is {
			w.at(at.Child(k.name), "%s", k.text)
		}
	}
	if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
		at := at.Child("ephemeral", "volumeClaimTemplate", "spec")
		*w = append(*w, ClaimWarnings(&v.Ephemeral.VolumeClaimTemplate.Spec, at)...)
	}
}

// VolumeWarnings are what the writer of a PersistentVolume should know.
func VolumeWarnings(pv *corev1.PersistentVolume) []string {
	var w told
	for _, a := range []struct{ key, instead string }{
		{"volume.beta.kubernetes.io/storage-class", `deprecated since v1.8; use "storageClassName" attribute instead`},
		{"volume.beta.kubernetes.io/mount-options", `deprecated since v1.31; use "mountOptions" attribute instead`},
	} {
		if _, has := pv.Annotations[a.key]; has {
			w.at(field.NewPath("metadata", "annotations").Key(a.key), "%s", a.instead)
		}
	}
	at, spec := field.NewPath("spec"), &pv.Spec
	if spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		w.at(at.Child("persistentVolumeReclaimPolicy"), "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	if a := spec.NodeAffinity; a != nil && a.Required != nil {
		for i := range a.Required.NodeSelectorTerms {
			w.nodeTerm(&a.Required.NodeSelectorTerms[i], at.Child("nodeAffinity", "required", "nodeSelectorTerms").Index(i))
		}
	}
	for _, k := range []struct {
		is         bool
		name, text string
	}{
		{spec.CephFS != nil, "cephfs", in128},
		{spec.PhotonPersistentDisk != nil, "photonPersistentDisk", photonGone},
		{spec.ScaleIO != nil, "scaleIO", scaleGone},
		{spec.StorageOS != nil, "storageOS", in122},
		{spec.Glusterfs != nil, "glusterfs", glusterGone},
		{spec.RBD != nil, "rbd", in128},
	} {
		if k.is {
			w.at(at.Child(k.name), "%s", k.text)
		}
	}
	return w
}

// ClaimWarnings are what the writer of a claim should know.
func ClaimWarnings(spec *corev1.PersistentVolumeClaimSpec, at *field.Path) []string {
	var w told
	if q, ok := spec.Resources.Requests[corev1.ResourceStorage]; ok && fractional(q) {
		w.at(at.Child("resources", "requests").Key(string(corev1.ResourceStorage)), "fractional byte value %q is invalid, must be an integer", q.String())
	}
	if q, ok := spec.Resources.Limits[corev1.ResourceStorage]; ok && fractional(q) {
		w.at(at.Child("resources", "limits").Key(string(corev1.ResourceStorage)), "fractional byte value %q is invalid, must be an integer", q.String())
	}
	return w
}

// overlaps warns of files of a volume that are in each other's way.
func overlaps(volumes []corev1.Volume) []string {
	var out []string
	for _, v := range volumes {
		switch {
		case v.ConfigMap != nil:
			out = append(out, collisions(itemPaths(v.ConfigMap.Items), fmt.Sprintf("volume %q (ConfigMap %q): overlapping paths", v.Name, v.ConfigMap.Name))...)
		case v.Secret != nil:
			out = append(out, collisions(itemPaths(v.Secret.Items), fmt.Sprintf("volume %q (Secret %q): overlapping paths", v.Name, v.Secret.SecretName))...)
		case v.DownwardAPI != nil:
			out = append(out, collisions(downwardPaths(v.DownwardAPI.Items), fmt.Sprintf("volume %q (DownwardAPI): overlapping paths", v.Name))...)
		case v.Projected != nil:
			out = append(out, projectedOverlaps(v.Name, v.Projected.Sources)...)
		}
	}
	return out
}

func projectedOverlaps(name string, sources []corev1.VolumeProjection) []string {
	var out, before []string
	for i := range sources {
		paths, from := projectedPaths(&sources[i])
		if from == "" {
			out = append(out, fmt.Sprintf("volume %q (Projected) has no sources provided", name))
			continue
		}
		text := fmt.Sprintf("volume %q (Projected %s): overlapping paths", name, from)
		out = append(out, collisions(paths, text)...)
		slices.Sort(paths)
		paths = slices.Compact(paths)
		// Those of the sources before this one are in order and apart already.
		all := append(slices.Clone(paths), before...)
		slices.Sort(all)
		if len(before) > 0 {
			for _, c := range collisions(all, text) {
				if !slices.Contains(out, c) {
					out = append(out, c)
				}
			}
		}
		before = append(before, paths...)
	}
	return out
}

// projectedPaths are the paths of a source and its name; empty where there is none.
func projectedPaths(s *corev1.VolumeProjection) (paths []string, from string) {
	switch {
	case s.ConfigMap != nil:
		return itemPaths(s.ConfigMap.Items), fmt.Sprintf("ConfigMap %q", s.ConfigMap.Name)
	case s.Secret != nil:
		return itemPaths(s.Secret.Items), fmt.Sprintf("Secret %q", s.Secret.Name)
	case s.DownwardAPI != nil:
		return downwardPaths(s.DownwardAPI.Items), "DownwardAPI"
	case s.ServiceAccountToken != nil:
		return []string{s.ServiceAccountToken.Path}, "ServiceAccountToken"
	case s.ClusterTrustBundle != nil:
		b := s.ClusterTrustBundle
		switch {
		case b.Name != nil:
			from = fmt.Sprintf("ClusterTrustBundle %q", *b.Name)
		case b.SignerName != nil:
			from = fmt.Sprintf("ClusterTrustBundle %q", *b.SignerName)
		default:
			from = "ClusterTrustBundle"
		}
		return []string{b.Path}, from
	case s.PodCertificate != nil:
		return nil, "PodCertificate"
	}
	return nil, ""
}

func itemPaths(items []corev1.KeyToPath) []string {
	var out []string
	for _, i := range items {
		out = append(out, i.Path)
	}
	return out
}

func downwardPaths(items []corev1.DownwardAPIVolumeFile) []string {
	var out []string
	for _, i := range items {
		out = append(out, i.Path)
	}
	return out
}

// collisions are paths that are the same as, or below, ones before them.
func collisions(paths []string, text string) []string {
	var out, seen []string
	for _, p := range paths {
		p = strings.TrimRight(p, "/")
		for _, s := range seen {
			if p != "" && s != "" && (p == s || strings.HasPrefix(p, s+"/") || strings.HasPrefix(s, p+"/")) {
				out = append(out, fmt.Sprintf("%s: %q with %q", text, p, s))
				break
			}
		}
		if !slices.Contains(seen, p) {
			seen = append(seen, p)
		}
	}
	return out
}
