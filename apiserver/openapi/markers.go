package openapi

import (
	"encoding/json"
	"strings"
	"sync"
)

// marks are what a type's or a field's comments say.
type marks struct {
	required, optional bool
	listType, mapType  string
	keys               []string
	def                any
	// commented: the field has a description that its type does not tell.
	commented bool
	// union and discriminator are of the old union form.
	union, discriminator bool
}

// typeMarks are a type's own marks, under the empty name, and its fields'.
type typeMarks map[string]*marks

var markers = sync.OnceValue(parseMarkers)

var (
	listTypes = map[string]string{"la": "atomic", "ls": "set", "lm": "map"}
	mapTypes  = map[string]string{"ma": "atomic", "mg": "granular"}
)

// parseMarkers reads the generated table.
func parseMarkers() map[string]typeMarks {
	out := map[string]typeMarks{}
	for line := range strings.Lines(markerTable) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		t := typeMarks{}
		for part := range strings.SplitSeq(rest, "|") {
			field, list, _ := strings.Cut(part, ":")
			m := &marks{}
			for token := range strings.SplitSeq(list, ",") {
				m.add(token)
			}
			t[field] = m
		}
		out[name] = t
	}
	return out
}

func (m *marks) add(token string) {
	switch {
	case token == "!":
		m.required = true
	case token == "?":
		m.optional = true
	case token == "c":
		m.commented = true
	case token == "u":
		m.union = true
	case token == "ud":
		m.discriminator = true
	case listTypes[token] != "":
		m.listType = listTypes[token]
	case mapTypes[token] != "":
		m.mapType = mapTypes[token]
	case strings.HasPrefix(token, "k="):
		m.keys = append(m.keys, token[2:])
	case strings.HasPrefix(token, "d="):
		// The generator has taken JSON only.
		_ = json.Unmarshal([]byte(token[2:]), &m.def)
	}
}
