package past

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Request is what an audit log (audit.k8s.io/v1) says of a write that succeeded.
type Request struct {
	Verb, Namespace string
	// Name is empty for a collection, and for a create whose name the server made
	// where the log holds no answers.
	Name string
	// User is who asked; of impersonation "REAL as NAME".
	User string
	// Received and Done bound the time of the write.
	Received, Done time.Time
	// Revision is the one that the write made; 0 where the log holds no answers
	// (levels below RequestResponse).
	Revision int64
}

// auditEvent are the fields of audit.k8s.io/v1 Event that matter here.
type auditEvent struct {
	Stage, Verb, RequestURI string
	User                    struct{ Username string }
	ImpersonatedUser        struct{ Username string }
	ObjectRef               struct{ APIGroup, Resource, Namespace, Name string }
	ResponseStatus          struct{ Code int }
	ResponseObject          struct {
		Metadata struct{ Name, ResourceVersion string }
	}
	RequestReceivedTimestamp, StageTimestamp time.Time
}

// ReadAudit reads the writes to a resource's objects of a namespace from an audit
// log of JSON lines, in the order of the log; subresources too.
func ReadAudit(in io.Reader, r Resource, namespace string) ([]Request, error) {
	var out []Request
	for d := json.NewDecoder(in); ; {
		var e auditEvent
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return out, nil
		} else if errors.Is(err, io.ErrUnexpectedEOF) {
			return out, nil // the last line is being written
		} else if err != nil {
			return nil, fmt.Errorf("audit log: after %d bytes: %w", d.InputOffset(), err)
		}
		ref := &e.ObjectRef
		if e.Stage != "ResponseComplete" || e.ResponseStatus.Code/100 != 2 || ref.Resource != r.Resource || ref.APIGroup != r.Group || ref.Namespace != namespace || dry(e.RequestURI) {
			continue
		}
		q := Request{Verb: e.Verb, Namespace: ref.Namespace, Name: ref.Name, User: e.User.Username, Received: e.RequestReceivedTimestamp, Done: e.StageTimestamp}
		if as := e.ImpersonatedUser.Username; as != "" {
			q.User += " as " + as
		}
		if m := e.ResponseObject.Metadata; q.Name == "" && q.Verb == "create" {
			q.Name = m.Name
		}
		if q.Verb == "create" || q.Verb == "update" || q.Verb == "patch" {
			// Another verb's answer is the object before it.
			q.Revision, _ = strconv.ParseInt(e.ResponseObject.Metadata.ResourceVersion, 10, 64)
		}
		out = append(out, q)
	}
}

func dry(uri string) bool {
	u, err := url.ParseRequestURI(uri)
	return err == nil && u.Query().Has("dryRun")
}

// Attribute names the user of each object's change for which requests has one: by
// the revision where the log holds answers, else the nearest in time of those that
// could have made it, unless two users' are as near.
func Attribute(items []Object, requests []Request) {
	for i := range items {
		o := &items[i]
		at, err := time.Parse(time.RFC3339, o.Time)
		known := err == nil
		best, found := time.Duration(0), false
		for j := range requests {
			q := &requests[j]
			if q.Revision != 0 && q.Revision == o.Revision && q.Name == o.Name {
				o.User = q.User
				break
			}
			if !known || q.Revision != 0 || !q.mayHaveMade(o) {
				continue
			}
			switch away := q.away(at); {
			case away > nearness:
			case !found || away < best:
				best, found, o.User = away, true, q.User
			case away == best && q.User != o.User:
				o.User = ""
			}
		}
	}
}

// nearness is as exactly as the store knows when an object was deleted.
const nearness = time.Minute

// away is how far the second at is from the time of the request.
func (q *Request) away(at time.Time) time.Duration {
	return max(0, q.Received.Truncate(time.Second).Sub(at), at.Sub(q.Done))
}

func (q *Request) mayHaveMade(o *Object) bool {
	if q.Name != o.Name && q.Verb != "deletecollection" {
		return false
	}
	var verbs []string
	switch {
	case o.Created:
		verbs = []string{"create", "update", "patch"}
	case o.Deleted:
		// A write that takes the last finalizer away deletes too.
		verbs = []string{"delete", "deletecollection", "update", "patch"}
	default:
		verbs = []string{"update", "patch", "delete", "deletecollection", "create"}
	}
	return slices.Contains(verbs, q.Verb)
}
