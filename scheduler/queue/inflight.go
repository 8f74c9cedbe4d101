package queue

import (
	"container/list"

	"k8s.io/apimachinery/pkg/types"

	"skiff/scheduler/framework"
)

// change is an event with its objects.
type change struct {
	event          framework.ClusterEvent
	oldObj, newObj any
}

// inFlight keeps the events that arrived while pods were being scheduled. The
// list holds pod marks and changes in the order of arrival; a change is kept
// only while an older mark is in front of it, so nothing stays behind once the
// pods are done, whatever became of them.
type inFlight struct {
	log   *list.List // of types.UID (a mark) or change
	marks map[types.UID]*list.Element
}

func newInFlight() *inFlight {
	return &inFlight{log: list.New(), marks: map[types.UID]*list.Element{}}
}

func (f *inFlight) begin(uid types.UID) {
	if _, ok := f.marks[uid]; !ok {
		f.marks[uid] = f.log.PushBack(uid)
	}
}

// record keeps a change when a pod may need it, and tells whether it did.
func (f *inFlight) record(c change) bool {
	if len(f.marks) == 0 {
		return false
	}
	f.log.PushBack(c)
	return true
}

// since lists what arrived since the pod was popped; false when it is not in flight.
func (f *inFlight) since(uid types.UID) ([]change, bool) {
	mark, ok := f.marks[uid]
	if !ok {
		return nil, false
	}
	var out []change
	for e := mark.Next(); e != nil; e = e.Next() {
		if c, ok := e.Value.(change); ok {
			out = append(out, c)
		}
	}
	return out, true
}

func (f *inFlight) done(uid types.UID) {
	mark, ok := f.marks[uid]
	if !ok {
		return
	}
	delete(f.marks, uid)
	f.log.Remove(mark)
	for e := f.log.Front(); e != nil; e = f.log.Front() {
		if _, isMark := e.Value.(types.UID); isMark {
			return
		}
		f.log.Remove(e)
	}
}

func (f *inFlight) events() int { return f.log.Len() - len(f.marks) }
