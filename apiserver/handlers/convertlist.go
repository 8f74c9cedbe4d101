package handlers

import (
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/store"
)

// Bounds of what is converted at once: webhooks have memory and time of their own.
const (
	convertCount = 500
	convertBytes = 4 << 20
)

// convertAll converts a list's items together where the version can do that, and
// gives a target that knows them. Items whose encoding is at hand are left out.
func (t *Target) convertAll(wi *wire, items []*store.Item, include string) (*Target, error) {
	all := t.Version.FromHubAll
	asTable := wi.as == "Table"
	switch {
	case all == nil || t.Resource.Strategy.Decorate != nil, wi.partial():
		return t, nil
	case asTable && t.Version.Row == nil && include != "Object":
		return t, nil
	}
	own := *t
	own.converted = map[*store.Item]runtime.Object{}
	var some []*store.Item
	var hubs []runtime.Object
	size := 0
	flush := func() error {
		if len(hubs) == 0 {
			return nil
		}
		out, err := all(hubs)
		if err != nil {
			return err
		}
		for i, it := range some {
			own.converted[it] = out[i]
		}
		some, hubs, size = nil, nil, 0
		return nil
	}
	for _, it := range items {
		warm, err := it.Warm()
		if err != nil {
			return nil, err
		}
		if !asTable {
			if _, ok := warm.Cached(t.encodingKey(wi.wireFormat(), "")); ok {
				continue
			}
		}
		some, hubs, size = append(some, it), append(hubs, warm.Object), size+len(it.Raw)
		if len(hubs) >= convertCount || size >= convertBytes {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	return &own, flush()
}

// versionOf is version for an item of a list, which may be converted already.
func (t *Target) versionOf(it *store.Item, hub runtime.Object) (runtime.Object, error) {
	if obj, ok := t.converted[it]; ok {
		return obj, nil
	}
	return t.version(hub)
}
