package handlers

import (
	"net/http"
	"strconv"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver/request"
	"skiff/apiserver/store"
)

// deleteWorkers is how many objects of a collection are deleted at once: their
// commits share a flush of the disk.
const deleteWorkers = 16

func (a *API) deleteCollection(w http.ResponseWriter, r *http.Request, t *Target, _ *request.Info) {
	o, err := a.deleteOptions(r)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	if ignore := o.IgnoreStoreReadErrorWithClusterBreakingPotential; ignore != nil && *ignore {
		a.WriteError(w, r, unsafeDelete(metav1.SchemeGroupVersion.WithKind("DeleteOptions").GroupKind(), "",
			"is not allowed with DELETECOLLECTION, try again after removing the option"))
		return
	}
	lo, pred, err := listOptions(r, t)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	wi, err := t.negotiate(r)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	l, err := t.Store.List(r.Context(), store.ListOptions{
		Predicate: pred, ResourceVersion: lo.ResourceVersion, Match: lo.ResourceVersionMatch, Limit: lo.Limit, Continue: lo.Continue,
	})
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	var (
		mu    sync.Mutex
		first error
		wg    sync.WaitGroup
		slots = make(chan struct{}, deleteWorkers)
	)
	for _, it := range l.Items {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			obj, err := it.Object()
			if err == nil {
				own := *t
				own.collected = true
				if m, merr := metaOf(obj); merr == nil {
					own.Namespace, own.Name = m.GetNamespace(), m.GetName()
				}
				_, _, err = a.Delete(r.Context(), &own, o.DeepCopy())
			}
			if err != nil && !apierrors.IsNotFound(err) {
				mu.Lock()
				if first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if first != nil {
		a.WriteError(w, r, first)
		return
	}
	meta := metav1.ListMeta{ResourceVersion: strconv.FormatInt(l.Revision, 10), Continue: l.Continue, RemainingItemCount: l.Remaining}
	if wi.as == "Table" {
		wi.as = ""
	}
	if wi.format == formatProto {
		a.streamProto(w, r, t, &wi, l, meta)
		return
	}
	a.streamList(w, r, t, &wi, l, meta)
}
