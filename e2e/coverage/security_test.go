package coverage

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// Every test that docs/security.md names is where it says.
func TestSecurityPage(t *testing.T) {
	text, err := os.ReadFile(root + "/docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	tree := os.DirFS(root)
	named := regexp.MustCompile("`(\\S+) ((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 30 {
		t.Fatalf("the page names %d tests", len(named))
	}
	for _, m := range named {
		files, err := fs.Glob(tree, path.Join(m[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, file := range files {
			b, err := fs.ReadFile(tree, file)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(b), "\nfunc "+m[2]+"(")
		}
		if !found {
			t.Errorf("there is no %s in %s", m[2], m[1])
		}
	}
	for row := range strings.Lines(string(text)) {
		if strings.HasPrefix(row, "| 20") && !strings.Contains(row, "Test") {
			t.Errorf("no test in %s", row)
		}
	}
}
