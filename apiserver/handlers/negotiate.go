package handlers

import (
	"cmp"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/store"
)

// The formats of the wire.
const (
	formatJSON  = "application/json"
	formatYAML  = "application/yaml"
	formatProto = "application/vnd.kubernetes.protobuf"
	formatCBOR  = "application/cbor"
)

// wire is how a client wants its answer.
type wire struct {
	format string
	// as is "", "Table", "PartialObjectMetadata" or "PartialObjectMetadataList"
	// in version asVersion of meta.k8s.io.
	as, asVersion string
	pretty        bool
	stream        bool
}

var supported = []string{formatJSON, formatYAML, formatProto, formatCBOR}

func notAcceptable() error { return NotAcceptable(supported...) }

// NotAcceptable refuses a request whose Accept header wants none of media.
func NotAcceptable(media ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(media, ", "),
	}}
}

// noRepresentation refuses types of which none is among what is served.
func noRepresentation() error {
	return apierrors.NewGenericServerResponse(http.StatusNotAcceptable, "", schema.GroupResource{}, "",
		"406: Not Acceptable\n\nAvailable representations: "+strings.Join(supported, ", "), 0, false)
}

// negotiate reads the Accept header: the first clause that can be served wins.
// transform tells whether the answer has a Table and metadata form.
func negotiate(r *http.Request, transform bool) (wire, error) { return negotiated(r, transform, true) }

// negotiate is for answers with objects of the target's kind.
func (t *Target) negotiate(r *http.Request) (wire, error) {
	_, proto := t.Version.New().(store.ProtoMessage)
	return negotiated(r, true, proto)
}

// negotiated: proto tells whether whole objects have a protobuf form.
func negotiated(r *http.Request, transform, proto bool) (wire, error) {
	accept := r.Header.Values("Accept")
	w := wire{pretty: wantsPretty(r)}
	if len(accept) == 0 {
		w.format = formatJSON
		return w, nil
	}
	known := false
	for _, header := range accept {
		if header == "" {
			w.format = formatJSON
			return w, nil
		}
		for _, clause := range clauses(header) {
			clause = strings.TrimSpace(clause)
			// What most clients send needs no parser.
			if clause == formatProto && proto || clause == formatJSON {
				w.format = clause
				return w, nil
			}
			media, params, err := mime.ParseMediaType(clause)
			if err != nil {
				continue
			}
			switch media {
			case "*/*", "application/*":
				w.format = formatJSON
			case formatJSON, formatYAML, formatProto, formatCBOR:
				w.format = media
			default:
				continue
			}
			known = true
			if !w.options(params, transform) || w.format == formatProto && !proto && !w.partial() {
				continue
			}
			return w, nil
		}
	}
	if !known {
		return wire{}, noRepresentation()
	}
	return wire{}, notAcceptable()
}

// wantsPretty: people who look at answers in a browser or with curl get them indented.
func wantsPretty(r *http.Request) bool {
	if strings.Contains(r.URL.RawQuery, "pretty") {
		if v := r.URL.Query().Get("pretty"); v != "" {
			yes, err := strconv.ParseBool(v)
			return err == nil && yes
		}
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// clauses are an Accept header's parts, the most wanted first.
func clauses(header string) []string {
	parts := strings.Split(header, ",")
	if !strings.Contains(header, "q=") {
		return parts
	}
	quality := func(clause string) float64 {
		_, params, err := mime.ParseMediaType(strings.TrimSpace(clause))
		if err != nil {
			return 0
		}
		if q, ok := params["q"]; ok {
			if f, err := strconv.ParseFloat(q, 64); err == nil {
				return f
			}
		}
		return 1
	}
	slices.SortStableFunc(parts, func(a, b string) int { return cmp.Compare(quality(b), quality(a)) })
	return parts
}

// options reads the parameters of a media type; false when they ask for what
// is not there.
func (w *wire) options(params map[string]string, transform bool) bool {
	w.as, w.asVersion, w.stream = "", "", false
	if as := params["as"]; as != "" {
		if !transform || params["g"] != metav1.GroupName || params["v"] != "v1" && params["v"] != "v1beta1" {
			return false
		}
		switch as {
		case "Table", "PartialObjectMetadata", "PartialObjectMetadataList":
		default:
			return false
		}
		if as == "Table" && w.format == formatProto {
			return false
		}
		w.as, w.asVersion = as, params["v"]
	}
	w.stream = params["stream"] == "watch"
	if params["pretty"] == "1" {
		w.pretty = true
	}
	return true
}

// contentType is the answer's header. It does not tell of Tables and metadata.
func (w *wire) contentType() string { return w.format }

// partial tells whether only metadata is wanted.
func (w *wire) partial() bool { return strings.HasPrefix(w.as, "PartialObject") }

// bodyFormat reads the Content-Type of a request.
func bodyFormat(r *http.Request) (string, error) {
	header := r.Header.Get("Content-Type")
	if header == "" {
		return formatJSON, nil
	}
	media, _, err := mime.ParseMediaType(header)
	if err != nil {
		return "", unsupportedMedia(supported)
	}
	switch media {
	case formatJSON, formatYAML, formatProto, formatCBOR:
		return media, nil
	}
	return "", unsupportedMedia(supported)
}

func unsupportedMedia(accepted []string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + strings.Join(accepted, ", "),
	}}
}
