package resources

import "k8s.io/apimachinery/pkg/runtime/schema"

// ReturnsDeleted tells whether a delete answers with the object, not with a Status.
func ReturnsDeleted(gvk schema.GroupVersionKind) bool {
	return returnsDeleted[gvk.GroupKind()] || gvk.Group == "resource.k8s.io" && gvk.Kind == "DeviceTaintRule" && gvk.Version != "v1"
}

// returnsDeleted are the kinds whose delete answers with the object.
var returnsDeleted = map[schema.GroupKind]bool{
	{Kind: "Pod"}: true, {Kind: "PersistentVolumeClaim"}: true, {Kind: "PersistentVolume"}: true, {Kind: "PodTemplate"}: true,
	{Kind: "ResourceQuota"}: true, {Kind: "Service"}: true, {Kind: "ServiceAccount"}: true,
	{Group: "policy", Kind: "PodSecurityPolicy"}: true, {Group: "storage.k8s.io", Kind: "StorageClass"}: true,
	{Group: "storage.k8s.io", Kind: "VolumeAttachment"}: true, {Group: "storage.k8s.io", Kind: "CSIDriver"}: true,
	{Group: "storage.k8s.io", Kind: "CSINode"}: true, {Group: "resource.k8s.io", Kind: "DeviceClass"}: true,
	{Group: "resource.k8s.io", Kind: "ResourceClaim"}: true, {Group: "resource.k8s.io", Kind: "ResourceClaimTemplate"}: true,
	{Group: "resource.k8s.io", Kind: "ResourceSlice"}: true, {Group: "resource.k8s.io", Kind: "ResourcePoolStatusRequest"}: true,
	{Group: "storage.k8s.io", Kind: "VolumeAttributesClass"}: true,
}
