// Package version says which version of Kubernetes this is.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	apimachineryversion "k8s.io/apimachinery/pkg/version"
)

// Version is set by the linker: v1.37.2+skiff.N.
var Version = "v1.37.2+skiff.0"

// Info is the answer of /version.
func Info() apimachineryversion.Info {
	out := apimachineryversion.Info{
		Major: "1", Minor: "37", GitVersion: Version, GitTreeState: "clean",
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: fmt.Sprintf("%s/%s", runtime.GOOS, runtime.GOARCH),
		BuildDate: "1970-01-01T00:00:00Z", EmulationMajor: "1", EmulationMinor: "37", MinCompatibilityMajor: "1", MinCompatibilityMinor: "36",
	}
	parts := strings.SplitN(strings.TrimPrefix(Version, "v"), ".", 3)
	if len(parts) == 3 {
		out.Major, out.Minor = parts[0], parts[1]
	}
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				out.GitCommit = s.Value
			}
		}
	}
	return out
}
