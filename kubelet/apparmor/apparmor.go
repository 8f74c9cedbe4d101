// Package apparmor asks the kernel whether it confines processes by AppArmor.
package apparmor

import (
	"os"
	"strings"
)

// Enabled tells whether the kernel has AppArmor and uses it.
func Enabled() bool {
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && strings.HasPrefix(string(enabled), "Y")
}
