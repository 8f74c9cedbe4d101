package audit

import (
	"encoding/json"
	"mime"

	"k8s.io/apimachinery/pkg/runtime"
	cbordirect "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// asJSON is a body as an event has it; nil when it is no object that can be shown.
func asJSON(b []byte, media string, omitManagedFields bool) *runtime.Unknown {
	if len(b) == 0 {
		return nil
	}
	kind, _, _ := mime.ParseMediaType(media)
	switch kind {
	case "application/vnd.kubernetes.protobuf":
		obj, _, err := protobuf.NewSerializer(clientscheme.Scheme, clientscheme.Scheme).Decode(b, nil, nil)
		if err != nil {
			return nil
		}
		if b, err = json.Marshal(obj); err != nil {
			return nil
		}
	case "application/cbor", "application/apply-patch+cbor":
		var doc any
		if err := cbordirect.Unmarshal(b, &doc); err != nil {
			return nil
		}
		var err error
		if b, err = json.Marshal(doc); err != nil {
			return nil
		}
	case "application/yaml", "application/apply-patch+yaml":
		var err error
		if b, err = yaml.YAMLToJSON(b); err != nil {
			return nil
		}
	}
	if !json.Valid(b) {
		return nil
	}
	if omitManagedFields {
		b = withoutManagedFields(b)
	}
	return &runtime.Unknown{Raw: b, ContentType: runtime.ContentTypeJSON}
}

func withoutManagedFields(b []byte) []byte {
	var doc map[string]json.RawMessage
	if json.Unmarshal(b, &doc) != nil {
		return b
	}
	strip := func(raw json.RawMessage) json.RawMessage {
		var meta map[string]json.RawMessage
		if json.Unmarshal(raw, &meta) != nil {
			return raw
		}
		delete(meta, "managedFields")
		out, err := json.Marshal(meta)
		if err != nil {
			return raw
		}
		return out
	}
	if meta, ok := doc["metadata"]; ok {
		doc["metadata"] = strip(meta)
	}
	if raw, ok := doc["items"]; ok {
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) == nil {
			for i := range items {
				items[i] = withoutManagedFields(items[i])
			}
			if out, err := json.Marshal(items); err == nil {
				doc["items"] = out
			}
		}
	}
	if raw, ok := doc["rows"]; ok {
		var rows []map[string]json.RawMessage
		if json.Unmarshal(raw, &rows) == nil {
			for _, row := range rows {
				if obj, ok := row["object"]; ok {
					row["object"] = withoutManagedFields(obj)
				}
			}
			if out, err := json.Marshal(rows); err == nil {
				doc["rows"] = out
			}
		}
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return b
	}
	return out
}
