package connect

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/handlers"
	"skiff/apiserver/store"
)

// applyScale is server-side apply of a Scale: who applies it owns the object's number
// of replicas as the manager of its subresource, and conflicts with others who do.
func (c *connectors) applyScale(r *http.Request, t *handlers.Target) (*store.Item, error) {
	body, err := readScalePatch(r)
	if err != nil {
		return nil, err
	}
	doc, err := yaml.YAMLToJSON(body)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	wished := &autoscalingv1.Scale{}
	if err := c.API.ReadPatched(r, scaleKind, types.ApplyYAMLPatchType, body, doc, wished); err != nil {
		return nil, err
	}
	if wished.Name == "" {
		wished.Name = t.Name
	}
	was := &autoscalingv1.Scale{}
	was.Name, was.Namespace, was.UID = t.Name, t.Namespace, wished.UID
	custom := t.Resource.Subresources["scale"].Scale
	if err := checkScale(t, was, wished, custom != nil); err != nil {
		return nil, err
	}
	var applied map[string]any
	if err := yaml.Unmarshal(doc, &applied); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	path := []string{"spec", "replicas"}
	if custom != nil {
		path = custom.Replicas
	}
	metadata := map[string]any{"name": t.Name}
	if wished.UID != "" {
		metadata["uid"] = string(wished.UID)
	}
	if wished.ResourceVersion != "" {
		metadata["resourceVersion"] = wished.ResourceVersion
	}
	config := map[string]any{
		"apiVersion": schema.GroupVersion{Group: t.Resource.Group, Version: t.Version.Name}.String(), "kind": t.Resource.Kind, "metadata": metadata,
	}
	if _, has, err := unstructured.NestedFieldNoCopy(applied, "spec", "replicas"); err == nil && has {
		if err := unstructured.SetNestedField(config, int64(wished.Spec.Replicas), path...); err != nil {
			return nil, err
		}
	}
	it, err := c.API.Apply(r, t, &t.Resource.Strategy, config)
	return it, ofScale(err, config["apiVersion"].(string), path)
}

// ofScale tells of a conflict over the object's number of replicas as one over the
// Scale's, which is what the client has sent.
func ofScale(err error, version string, path []string) error {
	var api apierrors.APIStatus
	if !errors.As(err, &api) || !apierrors.IsConflict(err) || api.Status().Details == nil {
		return err
	}
	status := api.Status()
	status.Details = status.Details.DeepCopy()
	own, field := "using "+version, "."+strings.Join(path, ".")
	scale := "using " + scaleKind.GroupVersion().String()
	for i, cause := range status.Details.Causes {
		if cause.Type == metav1.CauseTypeFieldManagerConflict && cause.Field == field {
			status.Details.Causes[i].Message = strings.ReplaceAll(cause.Message, own, scale)
			status.Details.Causes[i].Field = ".spec.replicas"
		}
	}
	status.Message = strings.NewReplacer(own+" at", scale+" at", own+": "+field, scale+": .spec.replicas").Replace(status.Message)
	return &apierrors.StatusError{ErrStatus: status}
}
