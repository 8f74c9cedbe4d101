// Package introspection serves the pages by which people look into a running
// server: /statusz, /flagz, /configz and /metrics/slis.
package introspection

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/cluster/version"
)

// Config of Pages.
type Config struct {
	// Component is the server's name, kube-apiserver.
	Component string
	// Started is when it began.
	Started time.Time
	// GoVersion, BinaryVersion and EmulationVersion are what it is built of; default
	// what this process is.
	GoVersion, BinaryVersion, EmulationVersion string
	// Paths are those that it serves.
	Paths func() []string
	// Flags are its flags, without secrets.
	Flags map[string]string
	// Configurations are the configurations in force, by name. They hold no secrets.
	Configurations func() (map[string]runtime.Object, error)
}

// Pages serves the pages of one server.
type Pages struct {
	cfg Config
	now func() time.Time
}

// New makes the pages.
func New(c Config) *Pages {
	v := version.Info()
	c.GoVersion = cmp.Or(c.GoVersion, v.GoVersion)
	c.BinaryVersion = cmp.Or(c.BinaryVersion, strings.TrimPrefix(v.GitVersion, "v"))
	c.EmulationVersion = cmp.Or(c.EmulationVersion, v.EmulationMajor+"."+v.EmulationMinor)
	return &Pages{cfg: c, now: time.Now}
}

// statusz is a page of config.k8s.io. Its versions have the same form.
type statusz struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	StartTime         metav1.Time `json:"startTime"`
	UptimeSeconds     int64       `json:"uptimeSeconds"`
	GoVersion         string      `json:"goVersion"`
	BinaryVersion     string      `json:"binaryVersion"`
	EmulationVersion  string      `json:"emulationVersion,omitempty"`
	Paths             []string    `json:"paths"`
}

// flagz is a page of config.k8s.io. Its versions have the same form.
type flagz struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Flags             map[string]string `json:"flags,omitempty"`
}

// Statusz says what runs, and since when.
func (p *Pages) Statusz(w http.ResponseWriter, r *http.Request) {
	up := max(0, int64(p.now().Sub(p.cfg.Started).Seconds()))
	paths := folders(p.cfg.Paths())
	write(w, r, "Statusz", func(t metav1.TypeMeta) any {
		return statusz{
			TypeMeta: t, ObjectMeta: metav1.ObjectMeta{Name: p.cfg.Component}, StartTime: metav1.NewTime(p.cfg.Started), UptimeSeconds: up,
			GoVersion: p.cfg.GoVersion, BinaryVersion: p.cfg.BinaryVersion, EmulationVersion: p.cfg.EmulationVersion, Paths: paths,
		}
	}, func() string {
		return p.head("statusz") + fmt.Sprintf("\nStarted: %s\nUp: %d hr %02d min %02d sec\nGo version: %s\nBinary version: %s\nEmulation version: %s\nPaths: %s\n",
			p.cfg.Started.Format(time.UnixDate), up/3600, up/60%60, up%60, p.cfg.GoVersion, p.cfg.BinaryVersion, p.cfg.EmulationVersion, strings.Join(paths, " "))
	})
}

// Flagz lists the flags.
func (p *Pages) Flagz(w http.ResponseWriter, r *http.Request) {
	write(w, r, "Flagz", func(t metav1.TypeMeta) any {
		return flagz{TypeMeta: t, ObjectMeta: metav1.ObjectMeta{Name: p.cfg.Component}, Flags: p.cfg.Flags}
	}, func() string {
		var b strings.Builder
		b.WriteString(p.head("flagz"))
		for _, name := range slices.Sorted(maps.Keys(p.cfg.Flags)) {
			fmt.Fprintf(&b, "%s=%s\n", name, p.cfg.Flags[name])
		}
		return b.String()
	})
}

// Configz gives the configurations in force.
func (p *Pages) Configz(w http.ResponseWriter, _ *http.Request) {
	all, err := p.cfg.Configurations()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b, err := json.Marshal(all)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the client is gone when this fails
}

func (p *Pages) head(page string) string {
	return fmt.Sprintf("\n%s %s\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n",
		p.cfg.Component, page)
}

// folders are the first elements of paths, but for those of the API itself.
func folders(paths []string) []string {
	out := []string{}
	for _, path := range paths {
		first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		switch first {
		case "", "api", "apis", "openapi", "openid", ".well-known":
			continue
		}
		out = append(out, "/"+first)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
