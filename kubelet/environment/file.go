package environment

import (
	"fmt"
	"regexp"
	"strings"
)

var fileName = regexp.MustCompile(`^[^=\x00-\x1f\x7f]+$`)

// ParseFile reads an environment file: NAME='value' assignments, where the
// quotes are required and what is between them is literal and may span lines,
// blank lines, and comments that start with #.
func ParseFile(text string) (map[string]string, error) {
	out := map[string]string{}
	line := 1
	for text != "" {
		current, rest, _ := strings.Cut(text, "\n")
		if trimmed := strings.TrimSpace(current); trimmed == "" || strings.HasPrefix(trimmed, "#") {
			text = rest
			line++
			continue
		}
		name, value, ok := strings.Cut(text, "=")
		name = strings.TrimLeft(name, " \t")
		if !ok || !fileName.MatchString(name) || strings.TrimSpace(name) != name {
			return nil, fmt.Errorf("line %d: want NAME='value'", line)
		}
		value, ok = strings.CutPrefix(value, "'")
		end := strings.IndexByte(value, '\'')
		if !ok || end < 0 {
			return nil, fmt.Errorf("line %d: the value of %s has to be in single quotes", line, name)
		}
		out[name] = value[:end]
		line += strings.Count(value[:end], "\n")
		tail, rest, _ := strings.Cut(value[end+1:], "\n")
		if tail = strings.TrimSpace(tail); tail != "" && !strings.HasPrefix(tail, "#") {
			return nil, fmt.Errorf("line %d: unexpected text after the value of %s", line, name)
		}
		text = rest
		line++
	}
	return out, nil
}
