//go:build linux && cgo

package main

/*
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

// The pause process is init of a pod's PID namespace. It ends here, before the
// Go runtime starts, and so costs a few pages. With SIGCHLD ignored the kernel
// reaps the orphans that are handed to it.
__attribute__((constructor)) static void skiff_pause(int argc, char **argv) {
	if (argc != 2 || strcmp(argv[1], "pause") != 0)
		return;
	struct sigaction ignore;
	memset(&ignore, 0, sizeof(ignore));
	ignore.sa_handler = SIG_IGN;
	ignore.sa_flags = SA_NOCLDWAIT;
	sigaction(SIGCHLD, &ignore, NULL);
	prctl(PR_SET_NAME, "pause", 0, 0, 0);
	for (;;)
		pause();
}
*/
import "C"

import (
	"os"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // enters namespaces before the Go runtime starts
)

const canRunContainers = true

// libcontainer runs this file as "init" for every process it starts. That must
// not go through main: the package's other start-up work is not for it.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init()
	}
}
