package shimapi

import "errors"

// Failures a caller can act on.
var (
	ErrNotFound   = errors.New("no such container in the pod")
	ErrNotRunning = errors.New("container is not running")
	ErrGone       = errors.New("the pod's shim is gone")
)

// Err turns a reply's failure into an error, nil when there is none.
func (r *Reply) Err() error {
	if r.Error == "" {
		return nil
	}
	switch r.Code {
	case CodeNotFound:
		return &replyError{text: r.Error, class: ErrNotFound}
	case CodeNotRunning:
		return &replyError{text: r.Error, class: ErrNotRunning}
	}
	return errors.New(r.Error)
}

type replyError struct {
	text  string
	class error
}

func (e *replyError) Error() string { return e.text }
func (e *replyError) Unwrap() error { return e.class }
