// Package storageversionmigrator writes the objects of a resource anew where a
// StorageVersionMigration asks for it, so that all are stored as new ones would be:
// in the storage version, and encrypted with the key that is in use.
package storageversionmigrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/storagemigration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	migrationlisters "k8s.io/client-go/listers/storagemigration/v1"
	"k8s.io/client-go/metadata"

	"skiff/controllers/loop"
)

const (
	// pageSize is how many objects are listed at once.
	pageSize = 500
	// findTries is how often a resource is looked for before the migration fails:
	// its definition may be as new.
	findTries = 5

	reasonRunning   = "StorageVersionMigrationInProgress"
	reasonSucceeded = "StorageVersionMigrationSucceeded"
	reasonFailed    = "StorageVersionMigrationFailed"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// Metadata reads and writes the objects of any resource. Required.
	Metadata metadata.Interface
}

// Controller carries migrations out.
type Controller struct {
	*loop.Loop
	parts      loop.Parts
	objects    metadata.Interface
	migrations migrationlisters.StorageVersionMigrationLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("storage-version-migrator")
	if err != nil {
		return nil, err
	}
	if c.Metadata == nil {
		return nil, errors.New("storage-version-migrator: Metadata is required")
	}
	migrations := parts.Informers.Storagemigration().V1().StorageVersionMigrations()
	m := &Controller{parts: parts, objects: c.Metadata, migrations: migrations.Lister()}
	m.Loop = loop.New("storage-version-migrator", parts, m.sync)
	m.On(migrations.Informer(), loop.Changed(func(o *v1.StorageVersionMigration) {
		if !ended(o) {
			m.Add(o.Name)
		}
	}))
	return m, nil
}

func ended(o *v1.StorageVersionMigration) bool {
	return meta.IsStatusConditionTrue(o.Status.Conditions, string(v1.MigrationSucceeded)) || meta.IsStatusConditionTrue(o.Status.Conditions, string(v1.MigrationFailed))
}

func (c *Controller) sync(ctx context.Context, name string) error {
	o, err := c.migrations.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil || ended(o) {
		return err
	}
	gvr, err := c.find(o.Spec.Resource)
	switch {
	case errors.Is(err, errNone) && c.Retries(name) >= findTries:
		return c.say(ctx, o, v1.MigrationFailed, reasonFailed, err.Error())
	case err != nil:
		return err
	}
	if o, err = c.begin(ctx, o, gvr); err != nil {
		return err
	}
	switch err := c.rewrite(ctx, gvr); {
	case err == nil:
		return c.say(ctx, o, v1.MigrationSucceeded, reasonSucceeded, "")
	case lasting(err):
		return c.say(ctx, o, v1.MigrationFailed, reasonFailed, err.Error())
	default:
		return err
	}
}

var errNone = errors.New("no such resource that can be listed and patched")

// find is a resource in the version that its group prefers.
func (c *Controller) find(of metav1.GroupResource) (schema.GroupVersionResource, error) {
	none := fmt.Errorf("%s: %w", schema.GroupResource{Group: of.Group, Resource: of.Resource}, errNone)
	groups, err := c.parts.Client.Discovery().ServerGroups()
	if err != nil {
		return schema.GroupVersionResource{}, err
	}
	at := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == of.Group })
	if at < 0 {
		return schema.GroupVersionResource{}, none
	}
	group := groups.Groups[at]
	versions := append([]metav1.GroupVersionForDiscovery{group.PreferredVersion}, group.Versions...)
	for _, v := range versions {
		list, err := c.parts.Client.Discovery().ServerResourcesForGroupVersion(v.GroupVersion)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return schema.GroupVersionResource{}, err
		}
		if slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool {
			return r.Name == of.Resource && slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "patch")
		}) {
			return schema.GroupVersionResource{Group: of.Group, Version: v.Version, Resource: of.Resource}, nil
		}
	}
	return schema.GroupVersionResource{}, none
}

// begin says that a migration runs, and from which resource version.
func (c *Controller) begin(ctx context.Context, o *v1.StorageVersionMigration, gvr schema.GroupVersionResource) (*v1.StorageVersionMigration, error) {
	if meta.IsStatusConditionTrue(o.Status.Conditions, string(v1.MigrationRunning)) {
		return o, nil
	}
	first, err := c.objects.Resource(gvr).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	next := o.DeepCopy()
	next.Status.ResourceVersion = first.ResourceVersion
	c.set(next, v1.MigrationRunning, metav1.ConditionTrue, reasonRunning, "")
	return c.parts.Client.StoragemigrationV1().StorageVersionMigrations().UpdateStatus(ctx, next, metav1.UpdateOptions{})
}

// rewrite writes every object that there is as it is.
func (c *Controller) rewrite(ctx context.Context, gvr schema.GroupVersionResource) error {
	page := metav1.ListOptions{Limit: pageSize}
	for {
		list, err := c.objects.Resource(gvr).List(ctx, page)
		if err != nil {
			return err
		}
		for i := range list.Items {
			if err := c.touch(ctx, gvr, &list.Items[i]); err != nil {
				return err
			}
		}
		if page.Continue = list.Continue; page.Continue == "" {
			return nil
		}
	}
}

// touch writes one object. Where another was quicker, it is stored as it should be.
func (c *Controller) touch(ctx context.Context, gvr schema.GroupVersionResource, o *metav1.PartialObjectMetadata) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": o.UID, "resourceVersion": o.ResourceVersion}})
	if err != nil {
		return err
	}
	_, err = c.objects.Resource(gvr).Namespace(o.Namespace).Patch(ctx, o.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "storage-version-migrator-controller"})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %s/%s: %w", gvr.GroupResource(), o.Namespace, o.Name, err)
	}
	return nil
}

// lasting tells errors that another attempt will not be without.
func lasting(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) || apierrors.IsMethodNotSupported(err)
}

// say writes how a migration ended.
func (c *Controller) say(ctx context.Context, o *v1.StorageVersionMigration, kind v1.MigrationConditionType, reason, message string) error {
	next := o.DeepCopy()
	if meta.IsStatusConditionTrue(next.Status.Conditions, string(v1.MigrationRunning)) {
		c.set(next, v1.MigrationRunning, metav1.ConditionFalse, reason, message)
	}
	c.set(next, kind, metav1.ConditionTrue, reason, message)
	_, err := c.parts.Client.StoragemigrationV1().StorageVersionMigrations().UpdateStatus(ctx, next, metav1.UpdateOptions{})
	return err
}

func (c *Controller) set(o *v1.StorageVersionMigration, kind v1.MigrationConditionType, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&o.Status.Conditions, metav1.Condition{
		Type: string(kind), Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(c.parts.Clock.Now().Truncate(time.Second)),
	})
}
