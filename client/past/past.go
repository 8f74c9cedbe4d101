// Package past is how the history commands reach what the store has kept of
// objects that were changed or deleted, and how they bring it back: as writes of
// their own, which pass admission as any other.
package past

import "encoding/json"

// Path is where the server answers. It is no part of Kubernetes' API: who asks
// needs the right to get this path, and to get the subresource "history" of the
// resource. The parameters are group, version, resource and namespace, and
//
//	name          the changes of one object
//	deleted=true  the objects that are gone
//	at            the state at a revision or a time, of one object or of all
const Path = "/skiff/v1/history"

// History is the answer.
type History struct {
	// Revision is the one that at stands for.
	Revision int64    `json:"revision,omitempty"`
	Items    []Object `json:"items"`
	// Lost are names that existed at that revision, and whose versions of then are
	// not kept.
	Lost []string `json:"lost,omitempty"`
}

// Object is an object at a revision.
type Object struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Revision  int64  `json:"revision"`
	// Created tells that the revision made it.
	Created bool `json:"created,omitempty"`
	// Deleted tells that the revision is that of its delete; Object is then the
	// object before it.
	Deleted bool `json:"deleted,omitempty"`
	// Time is when the revision was written; empty where unknown.
	Time string `json:"time,omitempty"`
	// By are the managers that the object names for the change.
	By []string `json:"by,omitempty"`
	// User is who changed it, where Attribute found it in an audit log.
	User   string          `json:"-"`
	Object json.RawMessage `json:"object,omitempty"`
}
