package handlers

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cbordirect "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"sigs.k8s.io/yaml"
)

// listForm is how a list is written in pieces: what stands before, between and
// after its items, and each item of its JSON.
type listForm struct {
	open, between, end []byte
	item               func(doc []byte) ([]byte, error)
}

// listHead are the fields of a list beside its items.
type listHead struct {
	Kind       string          `json:"kind"`
	APIVersion string          `json:"apiVersion"`
	Metadata   metav1.ListMeta `json:"metadata"`
}

// form is that of a list of n items in the format that is asked for, which is not
// protobuf.
func (w *wire) form(head listHead, n int) (listForm, error) {
	switch {
	case w.format == formatCBOR:
		return cborForm(head, n)
	case w.format == formatYAML:
		return yamlForm(head, n)
	case w.pretty:
		return prettyForm(head, n)
	}
	b, err := json.Marshal(head)
	if err != nil {
		return listForm{}, err
	}
	return listForm{
		open: append(b[:len(b)-1], `,"items":[`...), between: []byte(","), end: []byte("]}\n"),
		item: func(doc []byte) ([]byte, error) { return doc, nil },
	}, nil
}

func prettyForm(head listHead, n int) (listForm, error) {
	b, err := json.MarshalIndent(head, "", "  ")
	if err != nil {
		return listForm{}, err
	}
	b = append(bytes.TrimSuffix(b, []byte("\n}")), ",\n  \"items\": ["...)
	if n == 0 {
		return listForm{open: b, end: []byte("]\n}\n")}, nil
	}
	return listForm{
		open: append(b, "\n    "...), between: []byte(",\n    "), end: []byte("\n  ]\n}\n"),
		item: func(doc []byte) ([]byte, error) {
			var out bytes.Buffer
			err := json.Indent(&out, doc, "    ", "  ")
			return out.Bytes(), err
		},
	}, nil
}

// yamlForm has the fields in the order of their names, as YAML is written.
func yamlForm(head listHead, n int) (listForm, error) {
	open, err := yaml.Marshal(map[string]any{"apiVersion": head.APIVersion})
	if err != nil {
		return listForm{}, err
	}
	end, err := yaml.Marshal(map[string]any{"kind": head.Kind, "metadata": head.Metadata})
	if err != nil {
		return listForm{}, err
	}
	if n == 0 {
		return listForm{open: append(open, "items: []\n"...), end: end}, nil
	}
	return listForm{
		open: append(open, "items:\n"...), end: end,
		item: func(doc []byte) ([]byte, error) {
			return yaml.JSONToYAML(append(append([]byte("["), doc...), ']'))
		},
	}, nil
}

// cborForm is a map of four fields, the last of which is an array of n items.
func cborForm(head listHead, n int) (listForm, error) {
	const (
		fields     = 0xa4 // a map of four
		array      = 0x80 // a short array; its length is added
		array32    = 0x9a // an array whose length follows in 4 bytes
		shortArray = 24
	)
	meta, err := json.Marshal(head.Metadata)
	if err != nil {
		return listForm{}, err
	}
	var metadata any
	if err := unmarshalPreserving(meta, &metadata); err != nil {
		return listForm{}, err
	}
	open := []byte{fields}
	for _, v := range []any{"kind", head.Kind, "apiVersion", head.APIVersion, "metadata", metadata, "items"} {
		b, err := cbordirect.Marshal(v)
		if err != nil {
			return listForm{}, fmt.Errorf("encode the list: %w", err)
		}
		open = append(open, b...)
	}
	if n < shortArray {
		open = append(open, array+byte(n))
	} else {
		open = binary.BigEndian.AppendUint32(append(open, array32), uint32(n))
	}
	return listForm{open: open, item: func(doc []byte) ([]byte, error) {
		var v any
		if err := unmarshalPreserving(doc, &v); err != nil {
			return nil, err
		}
		return cbordirect.Marshal(v)
	}}, nil
}
