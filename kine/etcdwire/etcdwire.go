// Package etcdwire turns the store's requests and answers into etcd's messages
// and back. The server face decodes requests and encodes answers; the client
// backend does the opposite.
package etcdwire

import (
	"go.etcd.io/etcd/api/v3/mvccpb"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"skiff/kine"
)

// KeyValue encodes a key.
func KeyValue(kv *kine.KeyValue) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: []byte(kv.Key), Value: kv.Value, CreateRevision: kv.CreateRevision,
		ModRevision: kv.ModRevision, Version: kv.Version, Lease: kv.Lease,
	}
}

// KeyValues encodes keys.
func KeyValues(kvs []kine.KeyValue) []*mvccpb.KeyValue {
	out := make([]*mvccpb.KeyValue, len(kvs))
	for i := range kvs {
		out[i] = KeyValue(&kvs[i])
	}
	return out
}

// FromKeyValue decodes a key. A value is never nil, but for keys only.
func FromKeyValue(kv *mvccpb.KeyValue, keysOnly bool) kine.KeyValue {
	value := kv.Value
	if value == nil && !keysOnly {
		value = []byte{}
	}
	return kine.KeyValue{
		Key: string(kv.Key), Value: value, CreateRevision: kv.CreateRevision,
		ModRevision: kv.ModRevision, Version: kv.Version, Lease: kv.Lease,
	}
}

// FromKeyValues decodes keys.
func FromKeyValues(kvs []*mvccpb.KeyValue, keysOnly bool) []kine.KeyValue {
	out := make([]kine.KeyValue, len(kvs))
	for i, kv := range kvs {
		out[i] = FromKeyValue(kv, keysOnly)
	}
	return out
}

// Event encodes an event.
func Event(e *kine.Event) *mvccpb.Event {
	out := &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: KeyValue(&e.KV)}
	if e.Type == kine.Delete {
		out.Type = mvccpb.Event_DELETE
	}
	if e.PrevKV != nil {
		out.PrevKv = KeyValue(e.PrevKV)
	}
	return out
}

// FromEvent decodes an event.
func FromEvent(e *mvccpb.Event) *kine.Event {
	out := &kine.Event{Type: kine.Put}
	if e.Type == mvccpb.Event_DELETE {
		out.Type = kine.Delete
		out.KV = kine.KeyValue{Key: string(e.Kv.Key), ModRevision: e.Kv.ModRevision}
	} else {
		out.KV = FromKeyValue(e.Kv, false)
	}
	if e.PrevKv != nil {
		prev := FromKeyValue(e.PrevKv, false)
		out.PrevKV = &prev
	}
	return out
}

// Range encodes a range as key and range end. The first possible key stands for
// an empty one, which etcd does not take.
func Range(r kine.Range) (key, end []byte) {
	key = []byte(r.Start)
	if r.End != "" {
		end = []byte(r.End)
		if len(key) == 0 {
			key = []byte{0}
		}
	}
	return key, end
}

// FromRange decodes a key and range end.
func FromRange(key, end []byte) kine.Range {
	return kine.Range{Start: string(key), End: string(end)}
}

// RangeRequest encodes a read. A limit below 0 counts only.
func RangeRequest(r kine.Range, o kine.ReadOptions, limit int64) *pb.RangeRequest {
	key, end := Range(r)
	return &pb.RangeRequest{
		Key: key, RangeEnd: end, Revision: o.Revision, Limit: max(limit, 0),
		KeysOnly: o.KeysOnly, CountOnly: limit < 0,
	}
}

// FromRangeResponse decodes what a read saw.
func FromRangeResponse(resp *pb.RangeResponse, keysOnly bool) kine.ReadResult {
	return kine.ReadResult{
		Revision: resp.Header.GetRevision(), KVs: FromKeyValues(resp.Kvs, keysOnly), More: resp.More, Count: resp.Count,
	}
}
