package past

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// line is an event of an audit log, with fields beside or over those of all.
func line(verb, user, name, second, more string) string {
	return `{"kind":"Event","apiVersion":"audit.k8s.io/v1","stage":"ResponseComplete","verb":"` + verb + `","user":{"username":"` + user + `"},` +
		`"requestURI":"/api/v1/namespaces/ns/configmaps","objectRef":{"resource":"configmaps","namespace":"ns","name":"` + name + `","apiVersion":"v1"},` +
		`"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-01-01T00:00:` + second + `.100000Z","stageTimestamp":"2026-01-01T00:00:` + second + `.200000Z"` + more + "}\n"
}

// Covers: store.history
func TestAttribute(t *testing.T) {
	const day = "2026-01-01T00:00:"
	answer := func(revision string) string {
		return `,"responseObject":{"metadata":{"name":"made","resourceVersion":"` + revision + `"}}`
	}
	for _, c := range []struct {
		name, log string
		object    Object
		want      string
	}{
		{"the revision", line("update", "ann", "c", "50", answer("7")) + line("update", "bob", "c", "01", ""), Object{Name: "c", Revision: 7, Time: day + "01Z"}, "ann"},
		{"another revision at the time", line("update", "ann", "c", "01", answer("8")), Object{Name: "c", Revision: 7, Time: day + "01Z"}, ""},
		{"the nearest", line("patch", "ann", "c", "01", "") + line("patch", "bob", "c", "03", ""), Object{Name: "c", Time: day + "03Z"}, "bob"},
		{"two as near", line("patch", "ann", "c", "03", "") + line("patch", "bob", "c", "03", ""), Object{Name: "c", Time: day + "03Z"}, ""},
		{"one user twice", line("patch", "ann", "c", "03", "") + line("patch", "ann", "c", "03", ""), Object{Name: "c", Time: day + "03Z"}, "ann"},
		{"a delete, known to the minute", line("delete", "ann", "c", "01", ""), Object{Name: "c", Deleted: true, Time: day + "59Z"}, "ann"},
		{"a delete of the collection", line("deletecollection", "ann", "", "01", ""), Object{Name: "c", Deleted: true, Time: day + "01Z"}, "ann"},
		{"too long ago", line("delete", "ann", "c", "01", ""), Object{Name: "c", Deleted: true, Time: "2026-01-01T00:01:02Z"}, ""},
		{"a name the server made", line("create", "ann", "", "01", answer("7")), Object{Name: "made", Created: true, Revision: 7}, "ann"},
		{"another object", line("update", "ann", "d", "01", ""), Object{Name: "c", Time: day + "01Z"}, ""},
		{"a delete makes nothing", line("delete", "ann", "c", "01", ""), Object{Name: "c", Created: true, Time: day + "01Z"}, ""},
		{"impersonation", line("update", "ann", "c", "01", `,"impersonatedUser":{"username":"bob"}`), Object{Name: "c", Time: day + "01Z"}, "ann as bob"},
		{"dry run", line("update", "ann", "c", "01", `,"requestURI":"/api/v1/namespaces/ns/configmaps/c?dryRun=All"`), Object{Name: "c", Time: day + "01Z"}, ""},
		{"refused", line("update", "ann", "c", "01", `,"responseStatus":{"code":403}`), Object{Name: "c", Time: day + "01Z"}, ""},
		{"a stage before the end", line("update", "ann", "c", "01", `,"stage":"RequestReceived"`), Object{Name: "c", Time: day + "01Z"}, ""},
		{"another namespace", line("update", "ann", "c", "01", `,"objectRef":{"resource":"configmaps","namespace":"other","name":"c"}`), Object{Name: "c", Time: day + "01Z"}, ""},
		{"a line that is being written", line("update", "ann", "c", "01", "") + `{"stage":"Resp`, Object{Name: "c", Time: day + "01Z"}, "ann"},
	} {
		t.Run(c.name, func(t *testing.T) {
			requests, err := ReadAudit(strings.NewReader(c.log), Resource{schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, true}, "ns")
			if err != nil {
				t.Fatal(err)
			}
			items := []Object{c.object}
			Attribute(items, requests)
			if d := cmp.Diff(c.want, items[0].User); d != "" {
				t.Fatalf("(-want +got):\n%s", d)
			}
		})
	}
	if _, err := ReadAudit(strings.NewReader("no json\n"), Resource{}, ""); err == nil {
		t.Error("a file that is no audit log was read")
	}
}
