// Command nonewprivs tells as whom it runs: its file belongs to root and asks to
// be run as root.
package main

import (
	"fmt"
	"os"
)

func main() { fmt.Println("Effective uid:", os.Geteuid()) }
