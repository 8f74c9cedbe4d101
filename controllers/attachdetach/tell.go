package attachdetach

import (
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/storage/ephemeral"

	"skiff/controllers/loop"
)

// tellBusy says once on the waiting pods who holds their volumes.
func (c *Controller) tellBusy(node string, holders map[string]string, busy []*v1.PersistentVolume) {
	c.mu.Lock()
	var fresh []*v1.PersistentVolume
	now := map[string]bool{}
	for _, v := range busy {
		now[node+"/"+v.Name] = true
		if !c.told[node+"/"+v.Name] {
			fresh = append(fresh, v)
		}
	}
	for key := range c.told {
		if strings.HasPrefix(key, node+"/") && !now[key] {
			delete(c.told, key)
		}
	}
	for key := range now {
		c.told[key] = true
	}
	c.mu.Unlock()
	for _, v := range fresh {
		users := c.users(holders[v.Name], v)
		for _, p := range c.users(node, v) {
			if len(users) == 0 {
				c.parts.Events.Eventf(p, v1.EventTypeWarning, "FailedAttachVolume", "Multi-Attach error for volume %q Volume is already exclusively attached to one node and can't be attached to another", v.Name)
				continue
			}
			var names []string
			for _, u := range users {
				names = append(names, u.Name)
			}
			c.parts.Events.Eventf(p, v1.EventTypeWarning, "FailedAttachVolume", "Multi-Attach error for volume %q Volume is already used by pod(s) %s", v.Name, strings.Join(names, ", "))
		}
	}
}

// tellProgress says on the pods of a volume what its driver made of attaching it.
func (c *Controller) tellProgress(old, a *storage.VolumeAttachment) {
	if a.Spec.Source.PersistentVolumeName == nil || a.DeletionTimestamp != nil {
		return
	}
	failure := a.Status.AttachError
	failed := failure != nil && (old.Status.AttachError == nil || old.Status.AttachError.Message != failure.Message)
	if !failed && (!a.Status.Attached || old.Status.Attached) {
		return
	}
	v, err := c.volumes.Get(*a.Spec.Source.PersistentVolumeName)
	if err != nil {
		return
	}
	for _, p := range c.users(a.Spec.NodeName, v) {
		if a.Status.Attached {
			c.parts.Events.Eventf(p, v1.EventTypeNormal, "SuccessfulAttachVolume", "AttachVolume.Attach succeeded for volume %q ", v.Name)
		} else {
			c.parts.Events.Eventf(p, v1.EventTypeWarning, "FailedAttachVolume", "AttachVolume.Attach failed for volume %q : %s", v.Name, failure.Message)
		}
	}
}

// users are the pods of a node that use the volume.
func (c *Controller) users(node string, v *v1.PersistentVolume) []*v1.Pod {
	pods, err := loop.ByIndex[*v1.Pod](c.pods, loop.ByNode, node)
	if err != nil || v.Spec.ClaimRef == nil {
		return nil
	}
	return slices.DeleteFunc(pods, func(p *v1.Pod) bool {
		return p.Namespace != v.Spec.ClaimRef.Namespace || !slices.ContainsFunc(p.Spec.Volumes, func(s v1.Volume) bool {
			return s.PersistentVolumeClaim != nil && s.PersistentVolumeClaim.ClaimName == v.Spec.ClaimRef.Name ||
				s.Ephemeral != nil && ephemeral.VolumeClaimName(p, &s) == v.Spec.ClaimRef.Name
		})
	})
}
