// Command probe is what the end-to-end tests run in containers: a server whose
// health can be changed from outside, and a set of small tools for `kubectl
// exec`. It needs no shell and no other file in its image. Called as nginx it
// serves a page on port 80, for manifests that name that image.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	defer stop()
	if err := run(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if filepath.Base(args[0]) == "nginx" {
		return serve(ctx, []string{"--http", ":80", "--udp", "", "--tcp", "", "--page", welcome()})
	}
	if len(args) == 1 {
		return serve(ctx, nil)
	}
	if args[1] == "serve" {
		return serve(ctx, args[2:])
	}
	tool, ok := tools[args[1]]
	if !ok {
		return fmt.Errorf("unknown command %q: want serve or one of the tools", args[1])
	}
	return tool(ctx, args[2:])
}

func welcome() string {
	return "<html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1><p>" +
		os.Getenv("NGINX_VERSION") + "</p></body></html>\n"
}
