package server

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// The logs of the node's services are asked for by name where the configuration
// says so, and the folder of logs stays the limit.
//
// Covers: node.endpoints
func TestLogQuery(t *testing.T) {
	host, logs, bin := t.TempDir(), t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(host, "secret.log"): "host's", filepath.Join(logs, "plain"): "p", filepath.Join(logs, "dotted.log"): "d",
		filepath.Join(logs, "deep", "deep.log"): "deep", filepath.Join(logs, "folder", "other.log"): "o",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(host, "secret.log"), filepath.Join(logs, "out.log")); err != nil {
		t.Fatal(err)
	}
	journal := "#!/bin/sh\n[ \"$1\" = --field ] && { echo kubelet.service; exit; }\necho \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "journalctl"), []byte(journal), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	on := serveAs(t, logs, func(c *kubeletv1beta1.KubeletConfiguration) { *c.EnableSystemLogQuery = true })
	const short = "--utc --no-pager --output=short-precise"
	type answer struct {
		Code int
		Body string
	}
	for name, c := range map[string]struct {
		server *httptest.Server
		path   string
		want   answer
	}{
		"a file of the name":            {on, "?query=plain", answer{200, "p"}},
		"a file with an ending":         {on, "?query=dotted", answer{200, "d"}},
		"a file in a folder":            {on, "?query=deep", answer{200, "deep"}},
		"two services":                  {on, "?query=plain&query=dotted", answer{200, "pd"}},
		"none":                          {on, "?query=folder", answer{200, "\nlog not found for folder\n"}},
		"a link that leads out":         {on, "?query=out", answer{200, "\nerror getting log for out: statat out.log: path escapes from parent\n"}},
		"a file by path":                {on, "?query=/folder/other.log", answer{200, "o"}},
		"a file by a path of Windows":   {on, `?query=folder\other.log`, answer{200, "o"}},
		"a path that leads out":         {on, "?query=/../" + filepath.Base(host) + "/secret.log", answer{404, "404 page not found\n"}},
		"no query":                      {on, "plain", answer{200, "p"}},
		"a unit of the journal":         {on, "?query=kubelet", answer{200, short + " --unit=kubelet\n"}},
		"a unit with options":           {on, "?query=kubelet&tailLines=5&boot=-1&pattern=a.b&sinceTime=2026-01-02T03:04:05%2B01:00", answer{200, short + " --since=2026-01-02 02:04:05 --boot=-1 --lines=5 --grep=a.b --unit=kubelet\n"}},
		"a file with options":           {on, "?query=plain&tailLines=5", answer{200, "\noptions present and query resolved to log files for [plain]\ntry without specifying options\n"}},
		"an empty query":                {on, "?query=%20", answer{400, "query: Invalid value: [\" \"]: query cannot be empty\n"}},
		"a number that is none":         {on, "?query=kubelet&tailLines=x", answer{400, "tailLines: Invalid value: \"x\": strconv.Atoi: parsing \"x\": invalid syntax\n"}},
		"a time that is none":           {on, "?query=kubelet&untilTime=now", answer{400, "untilTime: Invalid value: \"now\": invalid time format\n"}},
		"a path and a query":            {on, "plain?query=plain", answer{406, "path not allowed in query mode\n"}},
		"a name with a flag in it":      {on, "?query=a%20--file", answer{406, "query: Invalid value: \"a --file\": input contains unsupported characters\n"}},
		"options alone":                 {on, "?tailLines=5", answer{406, "query: Required value: cannot be empty with options\n"}},
		"a boot to come":                {on, "?query=kubelet&boot=1", answer{406, "boot: Invalid value: 1: must be less than 1\n"}},
		"too many lines":                {on, "?query=kubelet&tailLines=100001", answer{406, "tailLines: Invalid value: 100001: must be between 0 and 100000, inclusive\n"}},
		"a file and options":            {on, "?query=folder/other.log&tailLines=1", answer{406, "query: Invalid value: [\"folder/other.log\"]: cannot specify file with options\n"}},
		"an end before the beginning":   {on, "?query=kubelet&sinceTime=2026-01-02T00:00:00Z&untilTime=2026-01-01T00:00:00Z", answer{406, "untilTime: Invalid value: \"2026-01-01T00:00:00Z\": must be after `sinceTime`\n"}},
		"not unless the node allows it": {serve(t, logs), "plain?query=kubelet", answer{200, "p"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got answer
			got.Code, got.Body = get(t, c.server, http.MethodGet, "/logs/"+c.path, "admin")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
