package csi

import (
	"encoding/json"
	"maps"
	"strconv"
	"time"

	csispec "github.com/container-storage-interface/spec/lib/go/csi"
	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
)

// The keys that drivers find in a volume's context.
const (
	keyPodName        = "csi.storage.k8s.io/pod.name"
	keyPodNamespace   = "csi.storage.k8s.io/pod.namespace"
	keyPodUID         = "csi.storage.k8s.io/pod.uid"
	keyServiceAccount = "csi.storage.k8s.io/serviceAccount.name"
	keyEphemeral      = "csi.storage.k8s.io/ephemeral"
	keyTokens         = "csi.storage.k8s.io/serviceAccount.tokens"
)

// capability says how the volume is to be used. group, when set, is what the
// driver gives the files to.
func (t *target) capability(f features, options []string, group *int64) *csispec.VolumeCapability {
	out := &csispec.VolumeCapability{AccessMode: &csispec.VolumeCapability_AccessMode{Mode: accessMode(t.accessModes, f)}}
	if t.block {
		out.AccessType = &csispec.VolumeCapability_Block{Block: &csispec.VolumeCapability_BlockVolume{}}
		return out
	}
	m := &csispec.VolumeCapability_MountVolume{FsType: t.fsType, MountFlags: options}
	if group != nil {
		m.VolumeMountGroup = strconv.FormatInt(*group, 10)
	}
	out.AccessType = &csispec.VolumeCapability_Mount{Mount: m}
	return out
}

// accessMode is the first that the volume has: it is the one it was made for.
func accessMode(modes []v1.PersistentVolumeAccessMode, f features) csispec.VolumeCapability_AccessMode_Mode {
	mode := v1.ReadWriteOnce
	if len(modes) > 0 {
		mode = modes[0]
	}
	switch {
	case mode == v1.ReadOnlyMany:
		return csispec.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	case mode == v1.ReadWriteMany:
		return csispec.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	case !f.multiWriter:
		return csispec.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	case mode == v1.ReadWriteOncePod:
		return csispec.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	}
	return csispec.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
}

// publishContext is the volume's context with what the driver wants to know of
// the pod. Tokens that belong into secrets are not in it.
func (t *target) publishContext(r rules, tokens string) map[string]string {
	out := maps.Clone(t.attributes)
	if out == nil {
		out = map[string]string{}
	}
	if r.podInfo {
		out[keyPodName], out[keyPodNamespace], out[keyPodUID] = t.pod.Name, t.pod.Namespace, string(t.pod.UID)
		out[keyServiceAccount] = t.pod.Spec.ServiceAccountName
		out[keyEphemeral] = strconv.FormatBool(t.ephemeral)
	}
	if tokens != "" && !r.tokensInSecrets {
		out[keyTokens] = tokens
	}
	return out
}

// token is one of the tokens that drivers get, by audience.
type token struct {
	Token               string    `json:"token"`
	ExpirationTimestamp time.Time `json:"expirationTimestamp"`
}

func encodeTokens(tokens map[string]*authenticationv1.TokenRequestStatus) (string, error) {
	out := map[string]token{}
	for audience, t := range tokens {
		out[audience] = token{t.Token, t.ExpirationTimestamp.Time}
	}
	data, err := json.Marshal(out)
	return string(data), err
}
