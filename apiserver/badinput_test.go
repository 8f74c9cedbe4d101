package apiserver_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"skiff/apiserver/apiservertest"
)

// What no client should send is refused with the right Status, costs little, and
// stores nothing.
//
// Covers: api.bad-input, api.status-errors
func TestBadInput(t *testing.T) {
	s := apiservertest.Start(t, nil)
	namespace(t, s.Client, "bad")
	const maps = "/api/v1/namespaces/bad/configmaps"
	if a := s.Call(t, "POST", maps, `{"metadata":{"name":"kept"},"data":{"k":"v"}}`, "Content-Type", "application/json"); a.Code != 201 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	long := strings.Repeat("x", 4<<20)
	// Nine levels of nine references each: 9^9 words, if anyone wrote them down.
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n")
	for i := 1; i <= 9; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	// Each copy doubles the object.
	var doubling []string
	for i := range 40 {
		doubling = append(doubling, fmt.Sprintf(`{"op":"copy","from":"/data","path":"/data/a%d"}`, i))
	}
	operations := func(n int, op string) string { return "[" + strings.TrimSuffix(strings.Repeat(op+",", n), ",") + "]" }
	const (
		inJSON, inYAML, inProto, inCBOR = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor"
		jsonPatch, mergePatch           = "application/json-patch+json", "application/merge-patch+json"
		strategicPatch, apply           = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
	)
	for _, tc := range []struct {
		name, method, path, media, body string
		code                            int
		reason                          metav1.StatusReason
	}{
		{"body above the limit", "POST", maps, inJSON, `{"metadata":{"name":"a"},"data":{"k":"` + long + `"}}`, 413, metav1.StatusReasonRequestEntityTooLarge},
		{"patch above the limit", "PATCH", maps + "/kept", mergePatch, `{"data":{"k":"` + long + `"}}`, 413, metav1.StatusReasonRequestEntityTooLarge},
		{"delete options above the limit", "DELETE", maps + "/kept", inJSON, `{"kind":"DeleteOptions","x":"` + long + `"}`, 413, metav1.StatusReasonRequestEntityTooLarge},
		{"deep JSON", "POST", maps, inJSON, `{"metadata":{"name":"a"},"data":` + strings.Repeat(`{"a":`, 100000) + "1" + strings.Repeat("}", 100000) + "}", 400, metav1.StatusReasonBadRequest},
		{"deep JSON in a patch", "PATCH", maps + "/kept", mergePatch, `{"data":` + strings.Repeat(`[`, 100000) + strings.Repeat("]", 100000) + "}", 400, metav1.StatusReasonBadRequest},
		{"deep YAML", "POST", maps, inYAML, "metadata: {name: a}\ndata: " + strings.Repeat("[", 100000) + strings.Repeat("]", 100000), 400, metav1.StatusReasonBadRequest},
		{"deep CBOR", "POST", maps, inCBOR, "\xd9\xd9\xf7\xa1\x61a" + strings.Repeat("\x81", 100000) + "\x01", 400, metav1.StatusReasonBadRequest},
		{"YAML bomb", "POST", maps, inYAML, bomb.String(), 400, metav1.StatusReasonBadRequest},
		{"YAML bomb to apply", "PATCH", maps + "/a?fieldManager=m", apply, bomb.String(), 400, metav1.StatusReasonBadRequest},
		{"YAML that refers to itself", "POST", maps, inYAML, "metadata: {name: a}\ndata: &a {x: *a}\n", 400, metav1.StatusReasonBadRequest},
		{"many operations", "PATCH", maps + "/kept", jsonPatch, operations(10001, `{"op":"test","path":"/data/k","value":"v"}`), 413, metav1.StatusReasonRequestEntityTooLarge},
		{"operations that double", "PATCH", maps + "/kept", jsonPatch, "[" + strings.Join(doubling, ",") + "]", 413, metav1.StatusReasonRequestEntityTooLarge},
		{"a patch that is no list", "PATCH", maps + "/kept", jsonPatch, `{"op":"remove","path":"/data"}`, 400, metav1.StatusReasonBadRequest},
		{"a patch to nowhere", "PATCH", maps + "/kept", jsonPatch, `[{"op":"remove","path":"/none/there"}]`, 422, metav1.StatusReasonInvalid},
		{"a patch of an unknown kind", "PATCH", maps + "/kept", "application/x-patch", `{}`, 415, metav1.StatusReasonUnsupportedMediaType},
		{"a directive nobody knows", "PATCH", maps + "/kept", strategicPatch, `{"$patch":"explode"}`, 400, metav1.StatusReasonBadRequest},
		{"no UTF-8 in a name", "POST", maps, inJSON, "{\"metadata\":{\"name\":\"\xff\xfe\"}}", 422, metav1.StatusReasonInvalid},
		{"no UTF-8 in CBOR", "POST", maps, inCBOR, "\xd9\xd9\xf7\xa1\x68metadata\xa1\x64name\x62\xff\xfe", 400, metav1.StatusReasonBadRequest},
		{"protobuf without its prefix", "POST", maps, inProto, "\x0a\x02ab", 400, metav1.StatusReasonBadRequest},
		{"protobuf cut off", "POST", maps, inProto, "k8s\x00\x0a\x20\x0a\x02v1", 400, metav1.StatusReasonBadRequest},
		{"protobuf of a length that is not there", "POST", maps, inProto, "k8s\x00\x12\xff\xff\xff\xff\x07x", 400, metav1.StatusReasonBadRequest},
		{"protobuf of a negative length", "POST", maps, inProto, "k8s\x00\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x", 400, metav1.StatusReasonBadRequest},
		{"protobuf groups in groups", "POST", maps, inProto, "k8s\x00" + strings.Repeat("\x7b", 100000), 400, metav1.StatusReasonBadRequest},
		{"CBOR cut off", "POST", maps, inCBOR, "\xd9\xd9\xf7\xa2\x61a", 400, metav1.StatusReasonBadRequest},
		{"CBOR of a length that is not there", "POST", maps, inCBOR, "\xd9\xd9\xf7\xbb\x7f\xff\xff\xff\xff\xff\xff\xff", 400, metav1.StatusReasonBadRequest},
		{"CBOR with the same key twice", "POST", maps, inCBOR, "\xd9\xd9\xf7\xa2\x61a\x01\x61a\x02", 400, metav1.StatusReasonBadRequest},
		{"nothing that is JSON", "POST", maps, inJSON, "\x00\x01", 400, metav1.StatusReasonBadRequest},
		{"an array", "POST", maps, inJSON, "[]", 400, metav1.StatusReasonBadRequest},
		{"an unknown format", "POST", maps, "text/xml", "<a/>", 415, metav1.StatusReasonUnsupportedMediaType},
		{"a format that makes no sense", "POST", maps, "application/json; charset", "{}", 415, metav1.StatusReasonUnsupportedMediaType},
		{"an unknown version in the body", "POST", maps, inJSON, `{"apiVersion":"v9","kind":"ConfigMap","metadata":{"name":"a"}}`, 400, metav1.StatusReasonBadRequest},
		{"a kind of another path", "POST", maps, inJSON, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}}`, 400, metav1.StatusReasonBadRequest},
		{"an unknown version in the path", "GET", "/api/v9/namespaces/bad/configmaps", "", "", 404, metav1.StatusReasonNotFound},
		{"an unknown version of a group", "GET", "/apis/apps/v9/things", "", "", 404, metav1.StatusReasonNotFound},
		{"a selector that does not parse", "GET", maps + "?labelSelector=" + strings.Repeat("a%3D%3D%3D", 10), "", "", 400, metav1.StatusReasonBadRequest},
		{"a selector of a long value", "GET", maps + "?labelSelector=a%3D" + strings.Repeat("x", 10000), "", "", 400, metav1.StatusReasonBadRequest},
		{"a field that no selector knows", "GET", maps + "?fieldSelector=data.k%3Dv", "", "", 400, metav1.StatusReasonBadRequest},
		{"a continue token of someone else", "GET", maps + "?limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi8uLi9zZWNyZXRzIn0", "", "", 400, metav1.StatusReasonBadRequest},
		{"a continue token that is none", "GET", maps + "?limit=1&continue=%00", "", "", 400, metav1.StatusReasonBadRequest},
		{"a negative version", "GET", maps + "?resourceVersion=-1", "", "", 400, ""},
		{"a name that climbs", "GET", maps + "/..%2f..%2fsecrets%2fx", "", "", 404, metav1.StatusReasonNotFound},
		{"a namespace that climbs", "GET", "/api/v1/namespaces/%2e%2e/configmaps/x", "", "", 404, metav1.StatusReasonNotFound},
		{"a time-out that is none", "GET", maps + "?timeout=soon", "", "", 400, metav1.StatusReasonBadRequest},
		{"a dry run of what", "POST", maps + "?dryRun=Maybe", inJSON, `{"metadata":{"name":"a"}}`, 422, metav1.StatusReasonInvalid},
		{"apply by nobody", "PATCH", maps + "/a", apply, "apiVersion: v1\nkind: ConfigMap\n", 422, metav1.StatusReasonInvalid},
		{"a proxy to the link's own services", "GET", "/api/v1/namespaces/bad/pods/http:none:80/proxy/", "", "", 404, metav1.StatusReasonNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			headers := []string{}
			if tc.media != "" {
				headers = []string{"Content-Type", tc.media}
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			a := s.Call(t, tc.method, tc.path, tc.body, headers...)
			runtime.ReadMemStats(&after)
			var st metav1.Status
			if err := json.Unmarshal(a.Body, &st); err != nil {
				t.Fatalf("no Status: %d %.300s", a.Code, a.Body)
			}
			if a.Code != tc.code || st.Code != int32(tc.code) || tc.reason != "" && st.Reason != tc.reason || st.Status != metav1.StatusFailure {
				t.Errorf("got %d %d %s, want %d %s: %.300s", a.Code, st.Code, st.Reason, tc.code, tc.reason, st.Message)
			}
			if len(a.Body) > 64<<10 {
				t.Errorf("the answer has %d bytes", len(a.Body))
			}
			// What is left over from other work of the server is far below this.
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 256<<20 {
				t.Errorf("it cost %d MiB", grown>>20)
			}
		})
	}
	t.Run("nothing is stored", func(t *testing.T) {
		list, err := s.Client.CoreV1().ConfigMaps("bad").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list.Items {
			if m.Name != "kube-root-ca.crt" && (m.Name != "kept" || len(m.Data) != 1 || m.Data["k"] != "v") {
				t.Errorf("there is %s with %v", m.Name, m.Data)
			}
		}
	})
	t.Run("expressions above their cost", func(t *testing.T) { costlyRules(t, s) })
	t.Run("headers", func(t *testing.T) { badHeaders(t, s) })
	t.Run("slow body", func(t *testing.T) { slowBody(t, s) })
}

// costlyRules are refused when the definition is made, not when an object is.
func costlyRules(t *testing.T, s *apiservertest.Server) {
	crd := definition(t, strings.ReplaceAll(widgets, "self.size <= 10", "self.all.all(a, self.all.all(b, self.all.all(c, a + b + c != '')))"))
	spec := &crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	props := (*spec).Properties["spec"]
	props.Properties["all"] = apiextensions.JSONSchemaProps{Type: "array", Items: &apiextensions.JSONSchemaPropsOrArray{Schema: &apiextensions.JSONSchemaProps{Type: "string"}}}
	(*spec).Properties["spec"] = props
	crd.APIVersion, crd.Kind = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
	b, err := json.Marshal(crd)
	if err != nil {
		t.Fatal(err)
	}
	a := s.Call(t, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", string(b), "Content-Type", "application/json")
	if a.Code != 422 || !bytes.Contains(a.Body, []byte("estimated rule cost exceeds budget")) {
		t.Errorf("got %d %.500s", a.Code, a.Body)
	}
}

// raw sends bytes over TLS and reads one answer, nil when the connection ends.
func raw(t *testing.T, s *apiservertest.Server, as *rest.Config, text string) *http.Response {
	t.Helper()
	conf, err := rest.TLSConfigFor(as)
	if err != nil {
		t.Fatal(err)
	}
	conf.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.Host, "https://"), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil
	}
	return resp
}

// badHeaders are those that another server on the way could read otherwise.
func badHeaders(t *testing.T, s *apiservertest.Server) {
	const get = "GET /api/v1/namespaces/bad/configmaps HTTP/1.1\r\n"
	const post = "POST /api/v1/namespaces/bad/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	for name, tc := range map[string]struct {
		text string
		want int
	}{
		"none":                      {get + "Host: x\r\n\r\n", 200},
		"no host":                   {get + "\r\n", 400},
		"two hosts":                 {get + "Host: x\r\nHost: y\r\n\r\n", 400},
		"a name with a space":       {get + "Host: x\r\nX-Remote-User : admin\r\n\r\n", 400},
		"a name with a line end":    {get + "Host: x\r\nA\rB: c\r\n\r\n", 400},
		"a value with a zero":       {get + "Host: x\r\nA: b\x00c\r\n\r\n", 400},
		"two lengths":               {post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400},
		"a signed length":           {post + "Content-Length: +2\r\n\r\n{}", 400},
		"a negative length":         {post + "Content-Length: -2\r\n\r\n{}", 400},
		"an encoding of its own":    {post + "Transfer-Encoding: identity\r\n\r\n", 501},
		"chunked twice":             {post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501},
		"a chunk of no length":      {post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400},
		"headers above their limit": {get + "Host: x\r\nA: " + strings.Repeat("x", 2<<20) + "\r\n\r\n", 431},
		"a path above that limit":   {"GET /api/v1/pods?labelSelector=" + strings.Repeat("x", 2<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n", 431},
		"a protocol that is none":   {"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505},
		"a method that is none":     {"G@T / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		"an identity in a header":   {get + "Host: x\r\nX-Remote-User: admin\r\nX-Remote-Group: system:masters\r\n\r\n", 200},
	} {
		t.Run(name, func(t *testing.T) {
			resp := raw(t, s, s.Admin, tc.text)
			if resp == nil {
				if tc.want < 400 {
					t.Error("no answer")
				}
				return // the connection was ended at once
			}
			defer resp.Body.Close()
			if resp.StatusCode != tc.want {
				b, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
				t.Errorf("got %d, want %d: %s", resp.StatusCode, tc.want, b)
			}
		})
	}
	resp := raw(t, s, s.Plain, get+"Host: x\r\nX-Remote-User: admin\r\nX-Remote-Group: system:masters\r\n\r\n")
	if resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("who only says that he is the administrator got %+v", resp)
	}
}

// slowBody: a client that does not send what it announced gives its place up when
// the time of its request is over.
func slowBody(t *testing.T, s *apiservertest.Server) {
	resp := raw(t, s, s.Admin, "POST /api/v1/namespaces/bad/configmaps?timeout=200ms HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"metadata\":")
	if resp == nil {
		t.Fatal("no answer")
	}
	defer resp.Body.Close()
	var st metav1.Status
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusGatewayTimeout || st.Reason != metav1.StatusReasonTimeout {
		t.Errorf("got %d %+v", resp.StatusCode, st)
	}
}
