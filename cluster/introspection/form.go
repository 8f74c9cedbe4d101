package introspection

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/munnerz/goautoneg"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const (
	formatText = "text/plain"
	formatJSON = "application/json"
	formatYAML = "application/yaml"
	group      = "config.k8s.io"
)

// form is how a page is wanted: as text, or as a kind of a version.
type form struct{ media, version string }

// wanted reads Accept headers. Who asks for nothing gets text; data is only given
// by kind and version, so that readers of it know what they read.
func wanted(accept []string, kind string) (form, bool) {
	if strings.TrimSpace(strings.Join(accept, "")) == "" {
		return form{media: formatText}, true
	}
	for _, clause := range goautoneg.ParseAccept(strings.Join(accept, ",")) {
		media, params := clause.Type+"/"+clause.SubType, clause.Params
		as := params["as"] == kind && params["g"] == group && (params["v"] == "v1beta1" || params["v"] == "v1alpha1")
		plain := params["as"] == ""
		switch {
		case as && (media == formatJSON || media == "application/*" || media == "*/*"):
			return form{formatJSON, params["v"]}, true
		case as && media == formatYAML:
			return form{formatYAML, params["v"]}, true
		case plain && (media == formatText || media == "text/*" || media == "*/*"):
			return form{media: formatText}, true
		}
	}
	return form{}, false
}

// write gives a page in the form that is wanted.
func write(w http.ResponseWriter, r *http.Request, kind string, data func(metav1.TypeMeta) any, text func() string) {
	f, ok := wanted(r.Header.Values("Accept"), kind)
	if !ok {
		refuse(w)
		return
	}
	if f.media == formatText {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write([]byte(text())) // the client is gone when this fails
		return
	}
	if f.version == "v1alpha1" {
		w.Header().Set("Warning", `299 - "This version of the `+strings.ToLower(kind)+` endpoint is deprecated. Please use a newer version."`)
	}
	b, err := json.Marshal(data(metav1.TypeMeta{APIVersion: group + "/" + f.version, Kind: kind}))
	if err == nil && f.media == formatYAML {
		b, err = yaml.JSONToYAML(b)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", f.media)
	_, _ = w.Write(b) // the client is gone when this fails
}

// refuse says which forms there are.
func refuse(w http.ResponseWriter) {
	w.Header().Set("Content-Type", formatJSON)
	w.WriteHeader(http.StatusNotAcceptable)
	_ = json.NewEncoder(w).Encode(metav1.Status{ // the client is gone when this fails
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Reason: metav1.StatusReasonNotAcceptable, Code: http.StatusNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join([]string{formatJSON, formatYAML, formatText}, ", "),
	})
}
