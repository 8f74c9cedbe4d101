// Package bounded keeps what containers and registries say short enough for a
// status or an event: one of megabytes is refused by the API server, and then
// nobody learns anything.
package bounded

import "strings"

// Message is how long a message in a status or an event may be, in bytes.
const Message = 8 << 10

// Text cuts a text to a length, and makes it valid: what it was not is left out.
func Text(s string, limit int) string {
	if len(s) > limit {
		const more = "..."
		s = s[:max(limit-len(more), 0)] + more[:min(len(more), limit)]
	}
	return strings.ToValidUTF8(s, "")
}
