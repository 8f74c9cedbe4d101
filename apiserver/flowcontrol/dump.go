package flowcontrol

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Dumps are the pages below /debug/api_priority_and_fairness/, by their names.
func (c *Controller) Dumps() map[string]http.HandlerFunc {
	page := func(rows func(r *http.Request) [][]string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			_ = write(w, rows(r)) // the client is gone when this fails
		}
	}
	return map[string]http.HandlerFunc{
		"dump_priority_levels": page(func(*http.Request) [][]string { return c.dumpLevels() }),
		"dump_queues":          page(func(*http.Request) [][]string { return c.dumpQueues() }),
		"dump_requests": page(func(r *http.Request) [][]string {
			details, err := strconv.ParseBool(r.URL.Query().Get("includeRequestDetails"))
			return c.dumpRequests(err == nil && details)
		}),
	}
}

// write aligns rows of fields with commas.
func write(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 8, 0, 1, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(t, strings.Join(row, ",\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

// sorted are the levels by name. The caller holds mu.
func (c *Controller) sorted() []*level {
	var out []*level
	for _, name := range slices.Sorted(maps.Keys(c.known)) {
		out = append(out, c.known[name])
	}
	return out
}

func (c *Controller) dumpLevels() [][]string {
	rows := [][]string{{"PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
		"DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests"}}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.sorted() {
		active := 0
		for _, q := range l.queues {
			if q.load() > 0 {
				active++
			}
		}
		waiting := l.waiting()
		rows = append(rows, []string{l.name, strconv.Itoa(active), strconv.FormatBool(waiting+l.executing == 0), "false", strconv.Itoa(waiting), strconv.Itoa(l.executing),
			strconv.Itoa(l.dispatched), strconv.Itoa(l.rejected[reasonFull] + l.rejected[reasonLimit]), strconv.Itoa(l.rejected[reasonTimeout]), strconv.Itoa(l.rejected[reasonGone])})
	}
	return rows
}

func (c *Controller) dumpQueues() [][]string {
	rows := [][]string{{"PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse"}}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.sorted() {
		for i, q := range l.queues {
			rows = append(rows, []string{l.name, strconv.Itoa(i), strconv.Itoa(q.waiting.Len()), strconv.Itoa(q.executing), strconv.Itoa(q.seats)})
		}
	}
	return rows
}

func (c *Controller) dumpRequests(details bool) [][]string {
	head := []string{"PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime", "StartTime"}
	if details {
		head = append(head, "UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")
	}
	rows := [][]string{head}
	add := func(t *ticket, queue, index int) {
		f := t.flow
		row := []string{t.level.name, f.schema, strconv.Itoa(queue), strconv.Itoa(index), f.distinguisher, instant(t.arrived), instant(t.runs)}
		if details {
			name := ""
			if f.user != nil {
				name = f.user.GetName()
			}
			row = append(row, name, f.info.Verb, f.info.Path, f.info.Namespace, f.info.Name, f.info.APIVersion, f.info.Resource, f.info.Subresource)
		}
		rows = append(rows, row)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.sorted() {
		queues := map[*queue]int{}
		for i, q := range l.queues {
			queues[q] = i
			for n, e := 0, q.waiting.Front(); e != nil; n, e = n+1, e.Next() {
				add(e.Value.(*ticket), i, n)
			}
		}
		running := slices.SortedFunc(maps.Keys(l.running), func(a, b *ticket) int { return a.arrived.Compare(b.arrived) })
		for _, t := range running {
			at, ok := queues[t.queue]
			if !ok {
				at = -1
			}
			add(t, at, -1)
		}
	}
	return rows
}

// instant is a time; "" for none.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
