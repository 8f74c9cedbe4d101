// Package logs reads containers' log files and keeps them small.
package logs

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"strings"
)

// Tail returns the last lines of a log in CRI's format, without time stamps,
// at most lines many and maxBytes long; "" when it cannot be read.
func Tail(path string, lines int, maxBytes int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	// Lines carry some forty bytes of their own.
	window := maxBytes * 4
	cut := false
	if info, err := f.Stat(); err == nil && info.Size() > window {
		if _, err := f.Seek(-window, io.SeekEnd); err != nil {
			return ""
		}
		cut = true
	}
	var out []string
	scanner := bufio.NewScanner(f)
	scanner.Buffer(make([]byte, 64<<10), 1<<20)
	if cut {
		scanner.Scan() // the window begins amid a line
	}
	for scanner.Scan() {
		parts := bytes.SplitN(scanner.Bytes(), []byte(" "), 4)
		if len(parts) < 4 {
			continue
		}
		text := string(parts[3])
		if string(parts[2]) != "P" {
			text += "\n"
		}
		out = append(out, text)
	}
	if len(out) > lines {
		out = out[len(out)-lines:]
	}
	text := strings.Join(out, "")
	if int64(len(text)) > maxBytes {
		text = text[int64(len(text))-maxBytes:]
	}
	return text
}
