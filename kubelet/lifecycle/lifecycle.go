// Package lifecycle runs the hooks of containers: postStart and preStop, by
// exec, HTTP request or sleep.
package lifecycle

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	internalapi "k8s.io/cri-api/pkg/apis"

	"skiff/kubelet/bounded"
)

// maxReply bounds what is read of an HTTP hook's reply, and what is told of what
// a command has printed.
const maxReply = 10 << 10

// Runner runs hooks.
type Runner struct {
	Runtime internalapi.RuntimeService
	// Client is used for HTTP hooks; nil means one that trusts any certificate.
	Client *http.Client
}

// Run runs one hook of a container. The error's text goes into the event.
func (r *Runner) Run(ctx context.Context, pod *v1.Pod, c *v1.Container, containerID, podIP string, hook *v1.LifecycleHandler) error {
	switch {
	case hook.Exec != nil:
		stdout, stderr, err := r.Runtime.ExecSync(bounded.WithOutput(ctx, maxReply), containerID, hook.Exec.Command, timeLeft(ctx))
		if err != nil {
			output := strings.TrimSpace(bounded.Text(string(stdout), maxReply/2) + bounded.Text(string(stderr), maxReply/2))
			return fmt.Errorf("Exec lifecycle hook (%v) for Container %q in Pod %q failed - error: %w, message: %q",
				hook.Exec.Command, c.Name, podName(pod), err, output)
		}
		return nil
	case hook.HTTPGet != nil:
		if err := r.get(ctx, pod, c, podIP, hook.HTTPGet); err != nil {
			return fmt.Errorf("HTTP lifecycle hook (%s) for Container %q in Pod %q failed - error: %w", hook.HTTPGet.Path, c.Name, podName(pod), err)
		}
		return nil
	case hook.Sleep != nil:
		timer := time.NewTimer(time.Duration(hook.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("container terminated before sleep hook finished")
		}
	}
	return fmt.Errorf("invalid handler: %v", hook)
}

func podName(pod *v1.Pod) string { return pod.Name + "_" + pod.Namespace + "(" + string(pod.UID) + ")" }

func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(time.Until(deadline), time.Second)
	}
	return 0
}

func (r *Runner) get(ctx context.Context, pod *v1.Pod, c *v1.Container, podIP string, h *v1.HTTPGetAction) error {
	host := h.Host
	if host == "" {
		host = podIP
	}
	port, err := Port(h.Port, c)
	if err != nil {
		return err
	}
	scheme := strings.ToLower(string(h.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, strconv.Itoa(port))+"/"+strings.TrimPrefix(h.Path, "/"), nil)
	if err != nil {
		return err
	}
	for _, header := range h.HTTPHeaders {
		req.Header.Add(header.Name, header.Value)
		if strings.EqualFold(header.Name, "Host") {
			req.Host = header.Value
		}
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "kube-lifecycle/1.37")
	}
	client := r.Client
	if client == nil {
		client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	}
	resp, err := client.Do(req)
	if err != nil && scheme == "https" && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		req.URL.Scheme = "http"
		resp, err = client.Do(req)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply))
	return errors.Join(err, resp.Body.Close())
}

// Port resolves a port that may be the name of one of the container's.
func Port(p intstr.IntOrString, c *v1.Container) (int, error) {
	if p.Type == intstr.Int {
		if p.IntVal < 1 || p.IntVal > 65535 {
			return 0, fmt.Errorf("invalid port number: %v", p.IntVal)
		}
		return int(p.IntVal), nil
	}
	for _, cp := range c.Ports {
		if cp.Name == p.StrVal {
			return int(cp.ContainerPort), nil
		}
	}
	n, err := strconv.Atoi(p.StrVal)
	if err != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("couldn't find port: %s in container %s", p.StrVal, c.Name)
	}
	return n, nil
}
