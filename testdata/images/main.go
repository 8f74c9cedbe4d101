// Command images builds the test images in memory and serves them as a registry
// until it is stopped:
//
//	go run ./testdata/images --listen 127.0.0.1:5000
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"skiff/testdata/images/imageset"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	listen := flag.String("listen", "127.0.0.1:5000", "the address of the registry")
	flag.Parse()
	url, err := imageset.Serve(ctx, *listen)
	if err != nil {
		return err
	}
	fmt.Printf("# %s serves:\n", url)
	for _, name := range imageset.Names() {
		fmt.Println("#  ", name)
	}
	fmt.Print(imageset.RegistriesYAML(url, append([]string{"docker.io"}, imageset.CritestRegistries()...)...))
	<-ctx.Done()
	return nil
}
