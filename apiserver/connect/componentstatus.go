package connect

import (
	"context"
	"maps"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/handlers"
)

// componentStatus tells of the health of the parts, one or all.
func (c *connectors) componentStatus(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	components := c.components()
	if t.Name != "" {
		check := components[t.Name]
		if check == nil {
			handlers.WriteError(w, r, apierrors.NewNotFound(t.GR(), t.Name))
			return
		}
		cs := component(r.Context(), t.Name, check)
		c.API.WriteComputed(w, r, t, t.GVK(), &cs, &cs)
		return
	}
	list := &corev1.ComponentStatusList{Items: []corev1.ComponentStatus{}}
	for _, name := range slices.Sorted(maps.Keys(components)) {
		list.Items = append(list.Items, component(r.Context(), name, components[name]))
	}
	rows := make([]runtime.Object, len(list.Items))
	for i := range list.Items {
		rows[i] = &list.Items[i]
	}
	gvk := t.GVK()
	gvk.Kind = t.Resource.ListKind
	c.API.WriteComputed(w, r, t, gvk, list, rows...)
}

// components are those that upstream names. The scheduler and the controllers
// are other processes' business, or parts of this one that end it when they fail.
func (c *connectors) components() map[string]func(context.Context) error {
	well := func(context.Context) error { return nil }
	store := c.Healthy
	if store == nil {
		store = well
	}
	return map[string]func(context.Context) error{"controller-manager": well, "scheduler": well, "etcd-0": store}
}

func component(ctx context.Context, name string, check func(context.Context) error) corev1.ComponentStatus {
	cs := corev1.ComponentStatus{ObjectMeta: metav1.ObjectMeta{Name: name}}
	cond := corev1.ComponentCondition{Type: corev1.ComponentHealthy, Status: corev1.ConditionTrue, Message: "ok"}
	if err := check(ctx); err != nil {
		cond.Status, cond.Message, cond.Error = corev1.ConditionFalse, "", err.Error()
	}
	cs.Conditions = []corev1.ComponentCondition{cond}
	return cs
}
