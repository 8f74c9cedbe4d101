package probes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	utilexec "k8s.io/utils/exec"

	"skiff/kubelet/bounded"
	"skiff/kubelet/environment"
	"skiff/kubelet/lifecycle"
)

const maxBody = 10 << 10

// outcome of one run of a probe.
type outcome int

const (
	failure outcome = iota
	success
	warning
	unknown
)

func (o outcome) String() string {
	return [...]string{failure: "failure", success: "success", warning: "warning", unknown: "unknown"}[o]
}

// runOnce runs a probe against a container once.
func (m *Manager) runOnce(ctx context.Context, t *target, p *v1.Probe, containerID, podIP string) (outcome, string, error) {
	timeout := time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
	switch {
	case p.Exec != nil:
		return m.exec(ctx, t, p.Exec.Command, containerID, timeout)
	case p.HTTPGet != nil:
		return httpGet(ctx, t.container, p.HTTPGet, podIP, timeout)
	case p.TCPSocket != nil:
		port, err := lifecycle.Port(p.TCPSocket.Port, t.container)
		if err != nil {
			return unknown, "", err
		}
		host := p.TCPSocket.Host
		if host == "" {
			host = podIP
		}
		conn, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return failure, err.Error(), nil
		}
		_ = conn.Close()
		return success, "", nil
	case p.GRPC != nil:
		service := ""
		if p.GRPC.Service != nil {
			service = *p.GRPC.Service
		}
		return grpcCheck(ctx, net.JoinHostPort(podIP, strconv.Itoa(int(p.GRPC.Port))), service, timeout)
	}
	return unknown, "", errors.New("missing probe handler")
}

func (m *Manager) exec(ctx context.Context, t *target, command []string, id string, timeout time.Duration) (outcome, string, error) {
	vars := map[string]string{}
	for _, e := range t.container.Env {
		vars[e.Name] = e.Value
	}
	args := make([]string, len(command))
	for i, a := range command {
		args[i] = environment.Expand(a, environment.In(vars))
	}
	stdout, stderr, err := m.cfg.Runtime.ExecSync(bounded.WithOutput(ctx, maxBody), id, args, timeout)
	text := string(stdout[:min(len(stdout), maxBody)])
	text += string(stderr[:min(len(stderr), maxBody-len(text))])
	if err == nil {
		return success, text, nil
	}
	var exit utilexec.ExitError
	if errors.As(err, &exit) {
		if exit.ExitStatus() == 0 {
			return success, text, nil
		}
		return failure, text, nil
	}
	if grpcstatus.Code(err) == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "timed out") {
		return failure, fmt.Sprintf("command timed out: %q timed out after %s", strings.Join(args, " "), timeout), nil
	}
	return unknown, "", err
}

// probeClient refuses to reuse connections and follows redirects on the same
// host only, as a container may answer with any address.
func probeClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, Proxy: nil, DisableCompression: true,
			DialContext: (&net.Dialer{Timeout: timeout}).DialContext,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse
			}
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
}

func httpGet(ctx context.Context, c *v1.Container, h *v1.HTTPGetAction, podIP string, timeout time.Duration) (outcome, string, error) {
	port, err := lifecycle.Port(h.Port, c)
	if err != nil {
		return unknown, "", err
	}
	host := h.Host
	if host == "" {
		host = podIP
	}
	u, err := url.Parse(h.Path)
	if err != nil {
		u = &url.URL{Path: h.Path}
	}
	u.Scheme = strings.ToLower(string(h.Scheme))
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	u.Host = net.JoinHostPort(host, strconv.Itoa(port))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return unknown, "", err
	}
	req.Header.Set("User-Agent", "kube-probe/1.37")
	req.Header.Set("Accept", "*/*")
	for _, header := range h.HTTPHeaders {
		if strings.EqualFold(header.Name, "Host") {
			req.Host = header.Value
			continue
		}
		if header.Value == "" && (header.Name == "Accept" || header.Name == "User-Agent") {
			req.Header[header.Name] = nil
			continue
		}
		req.Header.Set(header.Name, header.Value)
	}
	resp, err := probeClient(timeout).Do(req)
	if err != nil {
		return failure, err.Error(), nil
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return failure, "", err
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 400 {
		if resp.StatusCode >= 300 {
			return warning, fmt.Sprintf("Probe terminated redirects, Response body: %s", body), nil
		}
		return success, string(body), nil
	}
	return failure, fmt.Sprintf("HTTP probe failed with statuscode: %d", resp.StatusCode), nil
}

func grpcCheck(ctx context.Context, address, service string, timeout time.Duration) (outcome, string, error) {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "user-agent", "kube-probe/1.37"), timeout)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("kube-probe/1.37"))
	if err != nil {
		return failure, fmt.Sprintf("error: failed to connect service: %v", err), nil
	}
	defer func() { _ = conn.Close() }()
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service}, grpc.WaitForReady(false))
	if err != nil {
		switch grpcstatus.Code(err) {
		case codes.Unimplemented:
			return failure, fmt.Sprintf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", grpcstatus.Convert(err).Message()), nil
		case codes.DeadlineExceeded:
			return failure, fmt.Sprintf("timeout: health rpc did not complete within %v", timeout), nil
		}
		return failure, fmt.Sprintf("error: health rpc probe failed: %v", err), nil
	}
	if resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return failure, fmt.Sprintf("service unhealthy (responded with %q)", resp.GetStatus().String()), nil
	}
	return success, "service healthy", nil
}
