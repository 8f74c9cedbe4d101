package apps

import (
	"context"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// A daemon set's template has a generation of its own, kept in an annotation
// that clients see as deprecated.daemonset.template.generation.

func templateGeneration(ds *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(ds.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func setTemplateGeneration(ds *appsv1.DaemonSet, n int64) {
	if ds.Annotations == nil {
		ds.Annotations = map[string]string{}
	}
	ds.Annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(n, 10)
}

func withTemplateGeneration(next func(context.Context, *appsv1.DaemonSet)) func(context.Context, *appsv1.DaemonSet) {
	return func(ctx context.Context, ds *appsv1.DaemonSet) {
		next(ctx, ds)
		if n := templateGeneration(ds); n < 1 {
			setTemplateGeneration(ds, 1)
		}
	}
}

func keepTemplateGeneration(next func(_ context.Context, ds, old *appsv1.DaemonSet)) func(_ context.Context, ds, old *appsv1.DaemonSet) {
	return func(ctx context.Context, ds, old *appsv1.DaemonSet) {
		next(ctx, ds, old)
		n := templateGeneration(old)
		if !equality.Semantic.DeepEqual(ds.Spec.Template, old.Spec.Template) {
			n++
		}
		setTemplateGeneration(ds, n)
	}
}
