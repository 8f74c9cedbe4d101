package setup

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	"skiff/cluster/pki"
)

// JoinCommand is the line with which a worker joins.
func JoinCommand(pkiDir, server, token string) (string, error) {
	ca, err := pki.LoadCerts(filepath.Join(pkiDir, "ca.crt"))
	if err != nil {
		return "", err
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", fmt.Errorf("server %q: %w", server, err)
	}
	return fmt.Sprintf("skiff join %s --token %s --discovery-token-ca-cert-hash %s", u.Host, token, pki.PublicKeyPin(ca[0])), nil
}

// showJoin tells how to use the cluster and how nodes join it.
func (d *Init) showJoin(context.Context) error {
	if d.Quiet || d.DryRun {
		return nil
	}
	server, err := ServerURL(&d.Config.Cluster, d.Config.LocalAPIEndpoint)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "\nYour Kubernetes control-plane has initialized successfully!\n\n"+
		"To use it:\n\n  export KUBECONFIG=%s\n  skiff kubectl get nodes   # or any kubectl\n", d.Layout.AdminConf())
	if len(d.tokens) == 0 {
		return nil
	}
	line, err := JoinCommand(d.Config.Cluster.CertificatesDir, server, d.tokens[0])
	if err != nil {
		return err
	}
	if d.Config.CertificateKey != "" && d.UploadCerts {
		writeJoin(d.Out, "Another control-plane node joins, within two hours, with", line+" --control-plane --certificate-key "+d.Config.CertificateKey)
	}
	writeJoin(d.Out, "A worker node joins, as root on each, with", line)
	return nil
}

func writeJoin(out io.Writer, what, line string) {
	fmt.Fprintf(out, "\n%s:\n\n  %s\n", what, strings.Replace(line, " --discovery-", " \\\n\t--discovery-", 1))
}
