package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/cluster/layout"
	"skiff/kubelet/cri/imagearchive"
	"skiff/kubelet/cri/images"
)

// imagesCommand works on the images of the node on this machine.
func imagesCommand() *cobra.Command {
	var rootDir string
	cmd := &cobra.Command{
		Use: "images", Short: "Import, list, pull, remove and export the node's images",
		Long: "Import, list, pull, remove and export the images of the node on this machine.\n" +
			"Where no node runs, images can be imported for the one that will.",
	}
	cmd.PersistentFlags().StringVar(&rootDir, "root", "", "the folder that everything of the node is below; empty is the machine itself")
	cmd.AddCommand(
		&cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the images", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return withNode(rootDir, func(c *grpc.ClientConn) error { return listImages(cmd.Context(), c, cmd.OutOrStdout()) })
			}},
		&cobra.Command{Use: "pull IMAGE…", Short: "Pull images as a pod would", Args: cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return withNode(rootDir, func(c *grpc.ClientConn) error { return pullImages(cmd.Context(), c, cmd.OutOrStdout(), args) })
			}},
		&cobra.Command{Use: "rm IMAGE…", Short: "Remove images", Args: cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return withNode(rootDir, func(c *grpc.ClientConn) error { return removeImages(cmd.Context(), c, args) })
			}},
		importImagesCommand(&rootDir), exportImagesCommand(&rootDir),
	)
	return cmd
}

// errNoNode says that no node runs.
var errNoNode = errors.New("no node runs")

// withNode connects to the node's CRI socket.
func withNode(rootDir string, do func(*grpc.ClientConn) error) error {
	l, err := layout.New(rootDir)
	if err != nil {
		return err
	}
	probe, err := net.Dial("unix", l.CRISocket())
	if err != nil {
		return fmt.Errorf("%w at %s (%w): start it with skiff up, or name its folder with --root", errNoNode, l.CRISocket(), err)
	}
	probe.Close()
	const maxMessage = 16 << 20
	conn, err := grpc.NewClient("unix://"+l.CRISocket(), grpc.WithTransportCredentials(insecure.NewCredentials()), // a socket of root's
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close())
}

func listImages(ctx context.Context, c *grpc.ClientConn, out io.Writer) error {
	list, err := runtimeapi.NewImageServiceClient(c).ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tID\tSIZE\tPINNED")
	for _, i := range list.Images {
		names := i.RepoTags
		if len(names) == 0 {
			names = i.RepoDigests
		}
		if len(names) == 0 {
			names = []string{"<none>"}
		}
		for _, n := range names {
			fmt.Fprintf(w, "%s\t%.19s\t%s\t%t\n", n, i.Id, shownSize(i.Size), i.Pinned)
		}
	}
	return w.Flush()
}

// shownSize is a size as people compare it with what a registry says: 3.28MB.
func shownSize(bytes uint64) string {
	size, unit := float64(bytes), "B"
	for _, next := range []string{"kB", "MB", "GB", "TB"} {
		if size < 999.5 {
			break
		}
		size, unit = size/1000, next
	}
	return fmt.Sprintf("%.3g%s", size, unit)
}

func pullImages(ctx context.Context, c *grpc.ClientConn, out io.Writer, names []string) error {
	for _, n := range names {
		answer, err := runtimeapi.NewImageServiceClient(c).PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: n}})
		if err != nil {
			return fmt.Errorf("pull %s: %s", n, status.Convert(err).Message())
		}
		fmt.Fprintln(out, n, answer.ImageRef)
	}
	return nil
}

func removeImages(ctx context.Context, c *grpc.ClientConn, names []string) error {
	k := runtimeapi.NewImageServiceClient(c)
	for _, n := range names {
		spec := &runtimeapi.ImageSpec{Image: n}
		// To the CRI it is no error that an image is not there; to a person it is.
		there, err := k.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
		if err != nil {
			return fmt.Errorf("remove %s: %s", n, status.Convert(err).Message())
		}
		if there.Image == nil {
			return fmt.Errorf("remove %s: there is no such image: skiff images ls lists them", n)
		}
		if _, err := k.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: spec}); err != nil {
			return fmt.Errorf("remove %s: %s", n, status.Convert(err).Message())
		}
	}
	return nil
}

func importImagesCommand(rootDir *string) *cobra.Command {
	pinned := true
	cmd := &cobra.Command{Use: "import FILE…", Short: "Take images from archives of docker save or of an OCI tool; - is the input", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, file := range args {
				names, err := importFile(cmd, *rootDir, file, pinned)
				if err != nil {
					return fmt.Errorf("import %s: %w", file, err)
				}
				fmt.Fprintln(cmd.OutOrStdout(), strings.Join(names, "\n"))
			}
			return nil
		}}
	cmd.Flags().BoolVar(&pinned, "pinned", true, "keep the images from being collected when the disk fills")
	return cmd
}

func importFile(cmd *cobra.Command, rootDir, file string, pinned bool) (names []string, err error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	err = withNode(rootDir, func(c *grpc.ClientConn) error {
		names, err = imagearchive.Import(cmd.Context(), c, in, pinned)
		return err
	})
	if !errors.Is(err, errNoNode) {
		return names, err
	}
	l, err := layout.New(rootDir)
	if err != nil {
		return nil, err
	}
	store, err := images.New(images.Config{Root: filepath.Join(l.CRI(), "images")})
	if err != nil {
		return nil, err
	}
	taken, err := store.Import(cmd.Context(), in, images.ImportOptions{Pinned: pinned})
	return images.Names(taken), err
}

func exportImagesCommand(rootDir *string) *cobra.Command {
	return &cobra.Command{Use: "export FILE IMAGE…", Short: "Write images to one OCI archive, which docker load reads too; - is the output", Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withNode(*rootDir, func(c *grpc.ClientConn) error {
				if args[0] != "-" {
					f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
					if err != nil {
						return err
					}
					if err := imagearchive.Export(cmd.Context(), c, f, args[1:]); err != nil {
						return errors.Join(err, f.Close(), os.Remove(f.Name()))
					}
					return f.Close()
				}
				return imagearchive.Export(cmd.Context(), c, cmd.OutOrStdout(), args[1:])
			})
		}}
}
