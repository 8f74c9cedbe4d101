// Package coverage makes docs/coverage.md: which test covers each behaviour that
// Kubernetes requires of a conformant cluster, and each line of what skiff
// promises (lines.txt). A test says what it covers in comments of the forms
//
//	// Conformance: CODE NAME, without the marks [Conformance] and [NodeConformance]
//	// Covers: ID, ID
package coverage

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Mark is one statement of a test.
type Mark struct {
	// Key is the code name or the ID.
	Key string
	// Test is the function, File where it is.
	Test, File string
	Line       int
}

// marks are what introduces a statement.
const (
	conformanceMark = "// Conformance: "
	coversMark      = "// Covers: "
)

// Scan reads the statements in all test files below a folder.
func Scan(tree fs.FS) (conformance, covers []Mark, err error) {
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		b, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		c, l := scanFile(name, string(b))
		conformance, covers = append(conformance, c...), append(covers, l...)
		return nil
	})
	return conformance, covers, err
}

// scanFile gives a statement the function that it stands in, or else the next
// one: a comment in front of a function belongs to it.
func scanFile(name, text string) (conformance, covers []Mark) {
	lines := strings.Split(text, "\n")
	owner := make([]string, len(lines))
	next := path.Base(name)
	for i := len(lines) - 1; i >= 0; i-- {
		owner[i] = next
		if fn, ok := strings.CutPrefix(lines[i], "func "); ok {
			if strings.HasPrefix(fn, "(") {
				_, fn, _ = strings.Cut(fn, ") ")
			}
			next, _, _ = strings.Cut(fn, "(")
			owner[i] = next
		}
	}
	in := ""
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "func ") && !strings.HasSuffix(line, "}"): // it goes on
			in = owner[i]
		case line == "}":
			in = ""
		}
		test := owner[i]
		if in != "" {
			test = in
		}
		line = strings.TrimSpace(line)
		if key, ok := strings.CutPrefix(line, conformanceMark); ok {
			conformance = append(conformance, Mark{Key: strings.TrimSpace(key), Test: test, File: name, Line: i + 1})
		}
		if keys, ok := strings.CutPrefix(line, coversMark); ok {
			for key := range strings.SplitSeq(keys, ",") {
				covers = append(covers, Mark{Key: strings.TrimSpace(key), Test: test, File: name, Line: i + 1})
			}
		}
	}
	return conformance, covers
}

// Line is one promise.
type Line struct{ ID, Text string }

// Section is a heading and its promises.
type Section struct {
	Title string
	Lines []Line
}

// ParseLines reads lines.txt: headings after #, and lines of an ID, a colon and
// the promise.
func ParseLines(text string) ([]Section, error) {
	var out []Section
	seen := make(map[string]bool)
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if title, ok := strings.CutPrefix(line, "# "); ok {
			out = append(out, Section{Title: title})
			continue
		}
		id, what, ok := strings.Cut(line, ": ")
		if !ok || len(out) == 0 || seen[id] {
			return nil, fmt.Errorf("lines.txt:%d: %q: want a heading first, then lines of an ID of its own, a colon and text", n, line)
		}
		seen[id] = true
		last := &out[len(out)-1]
		last.Lines = append(last.Lines, Line{ID: id, Text: what})
	}
	return out, nil
}

// Unknown are the statements about what is not there, as errors to show.
func Unknown(marks []Mark, known map[string]bool) []string {
	var out []string
	for _, m := range marks {
		if !known[m.Key] {
			out = append(out, fmt.Sprintf("%s:%d: %s covers %q, which is not known", m.File, m.Line, m.Test, m.Key))
		}
	}
	return out
}

const (
	missing          = "missing"
	conformanceTitle = "## Kubernetes' conformance"
)

// Render makes the page.
func Render(names []string, sections []Section, conformance, covers []Mark) []byte {
	var b bytes.Buffer
	byName, byID := index(conformance), index(covers)
	b.WriteString("# What the tests cover\n\nMade by `go test ./e2e/coverage -update`; a line without a test is missing.\n\n")
	covered := 0
	for _, n := range names {
		if len(byName[n]) > 0 {
			covered++
		}
	}
	total, kept := 0, 0
	for _, s := range sections {
		for _, l := range s.Lines {
			total++
			if len(byID[l.ID]) > 0 {
				kept++
			}
		}
	}
	fmt.Fprintf(&b, "%d of the %d conformance behaviours and %d of the %d lines below have a test of our own.\n", covered, len(names), kept, total)
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n| line | tests |\n|---|---|\n", s.Title)
		for _, l := range s.Lines {
			fmt.Fprintf(&b, "| %s: %s | %s |\n", l.ID, cell(l.Text), tests(byID[l.ID]))
		}
	}
	fmt.Fprintf(&b, "\n%s\n\n| code name | tests |\n|---|---|\n", conformanceTitle)
	for _, n := range names {
		fmt.Fprintf(&b, "| %s | %s |\n", cell(n), tests(byName[n]))
	}
	return b.Bytes()
}

// Names are the code names that a page made by Render lists.
func Names(page []byte) []string {
	_, table, ok := strings.Cut(string(page), conformanceTitle+"\n")
	if !ok {
		return nil
	}
	var out []string
	for scanner := bufio.NewScanner(strings.NewReader(table)); scanner.Scan(); {
		if name, ok := strings.CutPrefix(scanner.Text(), "| ["); ok {
			name, _, _ = strings.Cut("["+name, " | ")
			out = append(out, strings.ReplaceAll(name, `\|`, "|"))
		}
	}
	return out
}

// Name is a code name without its marks.
func Name(codename string) string {
	for _, mark := range []string{" [Conformance]", " [NodeConformance]"} {
		codename = strings.ReplaceAll(codename, mark, "")
	}
	return strings.Join(strings.Fields(codename), " ")
}

func index(marks []Mark) map[string][]string {
	out := make(map[string][]string)
	for _, m := range marks {
		out[m.Key] = append(out[m.Key], path.Dir(m.File)+" "+m.Test)
	}
	return out
}

func tests(all []string) string {
	if len(all) == 0 {
		return missing
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

// cell keeps a text from ending its cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
