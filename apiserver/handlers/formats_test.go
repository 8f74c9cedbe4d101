package handlers_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

const (
	protoType = "application/vnd.kubernetes.protobuf"
	cborType  = "application/cbor"
	yamlType  = "application/yaml"
	secrets   = "/api/v1/namespaces/ns/secrets"
)

// Everything that goes in as one format comes out the same as any other.
//
// Covers: api.encodings
func TestFormats(t *testing.T) {
	s := newServer(t)
	in := &corev1.Secret{TypeMeta: metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"}, Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"k": {0, 1, 0xfe, 0xff}}}
	serializers := map[string]runtime.Serializer{
		protoType: protobuf.NewSerializer(scheme.Scheme, scheme.Scheme),
		cborType:  cbor.NewSerializer(scheme.Scheme, scheme.Scheme),
	}
	encode := func(media string) string {
		t.Helper()
		in := in.DeepCopy()
		in.Name = strings.Map(func(r rune) rune {
			if r == '/' {
				return '-'
			}
			return r
		}, media)
		var b bytes.Buffer
		switch media {
		case protoType, cborType:
			if err := serializers[media].Encode(in, &b); err != nil {
				t.Fatal(err)
			}
		default:
			out, err := yaml.Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			if media == "application/json" {
				if out, err = yaml.YAMLToJSON(out); err != nil {
					t.Fatal(err)
				}
			}
			b.Write(out)
		}
		return b.String()
	}
	decode := func(media string, b []byte) *corev1.Secret {
		t.Helper()
		out := &corev1.Secret{}
		switch media {
		case protoType, cborType:
			if _, _, err := serializers[media].Decode(b, nil, out); err != nil {
				t.Fatalf("%s: %v", media, err)
			}
		default:
			if err := yaml.UnmarshalStrict(b, out); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	all := []string{"application/json", yamlType, protoType, cborType}
	for _, from := range all {
		for _, to := range all {
			t.Run(from+" to "+to, func(t *testing.T) {
				a := s.must(http.StatusCreated, "POST", secrets+"?dryRun=All", encode(from), "Content-Type", from, "Accept", to)
				if got := a.header.Get("Content-Type"); got != to {
					t.Errorf("content type %q", got)
				}
				got := decode(to, a.body)
				if d := cmp.Diff(in.Data, got.Data); d != "" || got.Kind != "Secret" && to != protoType {
					t.Errorf("kind %q, data %s", got.Kind, d)
				}
			})
		}
	}
	s.must(http.StatusCreated, "POST", secrets, encode(protoType), "Content-Type", protoType)
	for _, media := range all {
		a := s.must(http.StatusOK, "GET", secrets, "", "Accept", media)
		var list corev1.SecretList
		switch media {
		case protoType, cborType:
			if _, _, err := serializers[media].Decode(a.body, nil, &list); err != nil {
				t.Fatalf("%s: %v", media, err)
			}
		default:
			if err := yaml.UnmarshalStrict(a.body, &list); err != nil {
				t.Fatal(err)
			}
		}
		if len(list.Items) != 1 || cmp.Diff(in.Data, list.Items[0].Data) != "" || list.ResourceVersion == "" {
			t.Errorf("%s: %+v", media, list)
		}
	}
	s.must(http.StatusNotAcceptable, "GET", secrets, "", "Accept", "text/html")
}

// Covers: api.tables
func TestTables(t *testing.T) {
	s := newServer(t)
	s.makeMaps(2)
	const table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	get := func(path string) *unstructured.Unstructured {
		t.Helper()
		return s.must(http.StatusOK, "GET", path, "", "Accept", table).doc(t)
	}
	list := get(maps)
	rows, _, _ := unstructured.NestedSlice(list.Object, "rows")
	if list.GetKind() != "Table" || list.GetAPIVersion() != "meta.k8s.io/v1" || len(rows) != 2 {
		t.Fatalf("%s %s of %d rows", list.GetAPIVersion(), list.GetKind(), len(rows))
	}
	row := rows[0].(map[string]any)
	if cells := row["cells"].([]any); cells[0] != "m0" || cells[1] != int64(0) {
		t.Errorf("cells %v", cells)
	}
	if obj := row["object"].(map[string]any); obj["kind"] != "PartialObjectMetadata" {
		t.Errorf("object %v", obj)
	}
	row = get(maps + "/m1?includeObject=Object").Object["rows"].([]any)[0].(map[string]any)
	if obj := row["object"].(map[string]any); obj["kind"] != "ConfigMap" {
		t.Errorf("object %v", obj)
	}
	row = get(maps + "/m1?includeObject=None").Object["rows"].([]any)[0].(map[string]any)
	if _, has := row["object"]; has {
		t.Errorf("row %v", row)
	}
	s.must(http.StatusBadRequest, "GET", maps+"?includeObject=Some", "", "Accept", table)
	// An error is a Status also for those who ask for tables.
	if st := s.must(http.StatusNotFound, "GET", maps+"/none", "", "Accept", table).status(t); st.Kind != "Status" {
		t.Errorf("status %+v", st)
	}
}

// Covers: api.tables
func TestMetadataOnly(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a","labels":{"x":"y"}},"data":{"k":"v"}}`)
	s.must(http.StatusCreated, "POST", "/apis/example.com/v1/namespaces/ns/widgets", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"a","labels":{"x":"y"}},"data":{"k":"v"}}`)
	for _, path := range []string{maps, "/apis/example.com/v1/namespaces/ns/widgets"} {
		list := s.must(http.StatusOK, "GET", path, "", "Accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").doc(t)
		items, _, _ := unstructured.NestedSlice(list.Object, "items")
		if list.GetKind() != "PartialObjectMetadataList" || len(items) != 1 {
			t.Fatalf("%s of %d", list.GetKind(), len(items))
		}
		u := unstructured.Unstructured{Object: items[0].(map[string]any)}
		if _, has := u.Object["data"]; has || u.GetLabels()["x"] != "y" || u.GetKind() != "PartialObjectMetadata" {
			t.Errorf("%s: item %v", path, u.Object)
		}
		b := s.must(http.StatusOK, "GET", path+"/a", "", "Accept", protoType+";as=PartialObjectMetadata;v=v1;g=meta.k8s.io").body
		var unk runtime.Unknown
		var p metav1.PartialObjectMetadata
		if err := unk.Unmarshal(b[4:]); err != nil {
			t.Fatal(err)
		}
		if err := p.Unmarshal(unk.Raw); err != nil || p.Name != "a" || p.Labels["x"] != "y" || p.ResourceVersion == "" {
			t.Errorf("%s: %+v (%v)", path, p, err)
		}
	}
}

func TestCustomResourcesHaveNoProtobuf(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", "/apis/example.com/v1/namespaces/ns/widgets", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"a"}}`)
	a := s.must(http.StatusOK, "GET", "/apis/example.com/v1/widgets", "", "Accept", protoType+",application/json")
	if got := a.header.Get("Content-Type"); got != "application/json" || names(t, a.doc(t)) != "a" {
		t.Errorf("content type %q: %s", got, a.body)
	}
	s.must(http.StatusNotAcceptable, "GET", "/apis/example.com/v1/widgets", "", "Accept", protoType)
}

// Covers: api.encodings
func TestBigAnswersAreCompressed(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a"},"data":{"k":"`+strings.Repeat("x", 200<<10)+`"}}`)
	for _, path := range []string{maps, maps + "/a"} {
		a := s.must(http.StatusOK, "GET", path, "", "Accept-Encoding", "gzip")
		if a.header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("%s: encoding %q", path, a.header.Get("Content-Encoding"))
		}
		z, err := gzip.NewReader(bytes.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil || len(plain) < 200<<10 || len(a.body) > 50<<10 {
			t.Errorf("%s: %d bytes of %d (%v)", path, len(a.body), len(plain), err)
		}
	}
}

func TestPretty(t *testing.T) {
	s := newServer(t)
	s.makeMaps(1)
	for _, tc := range []struct {
		name, query, agent string
		want               bool
	}{
		{"program", "", "kubectl/1", false},
		{"asked for", "?pretty=true", "kubectl/1", true},
		{"curl", "", "curl/8", true},
		{"curl that does not want it", "?pretty=false", "curl/8", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.must(http.StatusOK, "GET", maps+"/m0"+tc.query, "", "User-Agent", tc.agent)
			if got := bytes.Contains(a.body, []byte("\n  \"metadata\": {")); got != tc.want {
				t.Errorf("indented %v: %s", got, a.body)
			}
		})
	}
}

// Events are stored once and served by two groups, whose version has the same name.
func TestEachGroupHasItsOwnFields(t *testing.T) {
	s := newServer(t)
	const core, events = "/api/v1/namespaces/ns/events", "/apis/events.k8s.io/v1/namespaces/ns/events"
	s.must(http.StatusCreated, "POST", core, `{"metadata":{"name":"e"},"involvedObject":{"kind":"Pod","namespace":"ns","name":"p"}}`)
	for _, path := range []string{events + "/e", core + "/e", events + "/e", core, events} {
		got := string(s.must(http.StatusOK, "GET", path, "").body)
		mine, other := `"involvedObject":`, `"regarding":`
		if strings.HasPrefix(path, events) {
			mine, other = other, mine
		}
		if !strings.Contains(got, mine) || strings.Contains(got, other) {
			t.Errorf("%s gives %s", path, got)
		}
	}
}
