// Package logs reads containers' log files and keeps them small.
package logs

import (
	"bytes"
	"io"
	"strings"
)

const (
	// maxRecord is the longest part of a line in one record.
	maxRecord = 16 << 10
	// recordHead is what stands before the part: a time, a stream and a tag.
	recordHead = 64
)

// Tail returns the last lines of a log in CRI's format, without time stamps,
// at most lines many and maxBytes long; "" when it cannot be read.
func Tail(path string, lines int, maxBytes int) string {
	f, err := Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	// As much as holds the wanted text, and the record that the window begins amid.
	window := int64(maxBytes + (lines+1)*recordHead + maxRecord)
	start := max(info.Size()-window, 0)
	data, err := io.ReadAll(io.NewSectionReader(f, start, window))
	if err != nil {
		return ""
	}
	if start > 0 {
		_, rest, _ := bytes.Cut(data, []byte("\n"))
		if len(rest) == 0 {
			// One record, of another runtime, is longer than all that is wanted.
			return string(data[max(len(data)-maxBytes, 0):])
		}
		data = rest
	}
	var out []string
	for line := range bytes.Lines(data) {
		parts := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(" "), 4)
		switch {
		case len(parts) == 4 && string(parts[2]) == "P":
			out = append(out, string(parts[3]))
		case len(parts) == 4:
			out = append(out, string(parts[3])+"\n")
		}
	}
	if len(out) > lines {
		out = out[len(out)-lines:]
	}
	text := strings.Join(out, "")
	return text[max(len(text)-maxBytes, 0):]
}
