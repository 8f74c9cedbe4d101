package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/google/gnostic-models/compiler"
	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	yaml "go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
)

// protoV2 is a part of a v2 document in its protobuf form. Parts that follow each
// other are one message: what is in a field of both is put together.
func protoV2(part object) ([]byte, error) {
	in := node(part)
	at := compiler.NewContextWithExtensions("$root", in, nil, nil)
	doc := &openapiv2.Document{}
	if text, ok := part["swagger"].(string); ok {
		// What a whole document must have.
		var err error
		if doc, err = openapiv2.NewDocument(in, at); err != nil {
			return nil, fmt.Errorf("openapi %s: %w", text, err)
		}
		return proto.Marshal(doc)
	}
	var err error
	if doc.Paths, err = openapiv2.NewPaths(compiler.MapValueForKey(in, "paths"), compiler.NewContext("paths", in, at)); err != nil {
		return nil, fmt.Errorf("openapi v2: %w", err)
	}
	if doc.Definitions, err = openapiv2.NewDefinitions(compiler.MapValueForKey(in, "definitions"), compiler.NewContext("definitions", in, at)); err != nil {
		return nil, fmt.Errorf("openapi v2: %w", err)
	}
	return proto.Marshal(doc)
}

// protoV3 is a v3 document in its protobuf form.
func protoV3(text []byte) ([]byte, error) {
	var whole any
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, fmt.Errorf("openapi v3: %w", err)
	}
	in := node(whole)
	doc, err := openapiv3.NewDocument(in, compiler.NewContextWithExtensions("$root", in, nil, nil))
	if err != nil {
		return nil, fmt.Errorf("openapi v3: %w", err)
	}
	return proto.Marshal(doc)
}

// node is a value as the compiler of protobuf forms takes it. Its own reader
// would parse the text as YAML, which takes many times as long.
func node(v any) *yaml.Node {
	switch x := v.(type) {
	case map[string]any:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: make([]*yaml.Node, 0, 2*len(x))}
		for _, k := range slices.Sorted(maps.Keys(x)) {
			n.Content = append(n.Content, scalar("!!str", k), node(x[k]))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: make([]*yaml.Node, 0, len(x))}
		for _, e := range x {
			n.Content = append(n.Content, node(e))
		}
		return n
	case []string:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: make([]*yaml.Node, 0, len(x))}
		for _, e := range x {
			n.Content = append(n.Content, scalar("!!str", e))
		}
		return n
	case string:
		return scalar("!!str", x)
	case bool:
		return scalar("!!bool", strconv.FormatBool(x))
	case int:
		return scalar("!!int", strconv.Itoa(x))
	case int64:
		return scalar("!!int", strconv.FormatInt(x, 10))
	case float64:
		if x == float64(int64(x)) {
			return scalar("!!int", strconv.FormatInt(int64(x), 10))
		}
		return scalar("!!float", strconv.FormatFloat(x, 'g', -1, 64))
	}
	return scalar("!!null", "null")
}

func scalar(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}
