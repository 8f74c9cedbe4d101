package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"skiff/testdata/images/reach"
)

const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/"

// tools are the commands beside serve.
var tools = map[string]func(context.Context, []string) error{
	"api":      api,
	"cat":      cat,
	"copy":     func(context.Context, []string) error { _, err := io.Copy(os.Stdout, os.Stdin); return err },
	"count":    count,
	"create":   create,
	"echo":     func(_ context.Context, a []string) error { fmt.Println(strings.Join(a, " ")); return nil },
	"dig":      dig,
	"env":      env,
	"exit":     exit,
	"get":      getAll,
	"hammer":   hammer,
	"hostname": func(context.Context, []string) error { hostname(os.Stdout); return nil },
	"id":       func(context.Context, []string) error { fmt.Println(os.Getuid(), os.Getgid()); return nil },
	"look":     look,
	"lookup":   lookup,
	"mounts":   func(ctx context.Context, _ []string) error { return cat(ctx, []string{"/proc/self/mounts"}) },
	"sleep":    sleep,
	"setuid":   setuid,
	"stubborn": stubborn,
	"packet":   packet,
	"reach":    reachAll,
	"tcp":      func(ctx context.Context, a []string) error { return exchange(ctx, "tcp", a) },
	"udp":      func(ctx context.Context, a []string) error { return exchange(ctx, "udp", a) },
	"write":    write,
}

// setuid copies this program to a file that runs as its owner.
func setuid(_ context.Context, args []string) error {
	if err := need(args, 1, "setuid FILE"); err != nil {
		return err
	}
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(args[0], b, 0o755); err != nil {
		return err
	}
	return os.Chmod(args[0], 0o755|os.ModeSetuid)
}

func need(args []string, n int, usage string) error {
	if len(args) < n {
		return errors.New("usage: probe " + usage)
	}
	return nil
}

func cat(_ context.Context, args []string) error {
	for _, name := range args {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		os.Stdout.Write(b)
	}
	return nil
}

func write(_ context.Context, args []string) error {
	if err := need(args, 2, "write FILE TEXT"); err != nil {
		return err
	}
	return os.WriteFile(args[0], []byte(args[1]+"\n"), 0o644)
}

func env(_ context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Println(strings.Join(os.Environ(), "\n"))
		return nil
	}
	for _, name := range args {
		fmt.Println(os.Getenv(name))
	}
	return nil
}

// exit ends with a code, after an optional line.
func exit(_ context.Context, args []string) error {
	if err := need(args, 1, "exit CODE [TEXT]"); err != nil {
		return err
	}
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if len(args) > 1 {
		fmt.Println(strings.Join(args[1:], " "))
	}
	os.Exit(code)
	return nil
}

// sleep waits, or ends well on SIGTERM.
func sleep(ctx context.Context, args []string) error {
	d := 24 * time.Hour
	if len(args) > 0 {
		var err error
		if d, err = time.ParseDuration(args[0]); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		fmt.Println("probe: terminating")
	case <-time.After(d):
	}
	return nil
}

// stubborn stays after SIGTERM.
func stubborn(ctx context.Context, _ []string) error {
	<-ctx.Done()
	fmt.Println("probe: staying")
	select {}
}

// count prints a number each interval.
func count(ctx context.Context, args []string) error {
	if err := need(args, 2, "count N INTERVAL"); err != nil {
		return err
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	every, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	for i := 1; i <= n; i++ {
		fmt.Println("line", i)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
	return nil
}

func lookup(ctx context.Context, args []string) error {
	if err := need(args, 1, "lookup NAME"); err != nil {
		return err
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, args[0])
	for _, a := range addrs {
		fmt.Println(a)
	}
	return err
}

// getAll asks a URL, N times when told, on a connection of its own each time.
func getAll(ctx context.Context, args []string) error {
	if err := need(args, 1, "get URL [N]"); err != nil {
		return err
	}
	n := 1
	if len(args) > 1 {
		var err error
		if n, err = strconv.Atoi(args[1]); err != nil {
			return err
		}
	}
	for range n {
		body, err := get(ctx, args[0])
		if err != nil {
			return err
		}
		fmt.Print(body)
	}
	return nil
}

// hammer asks a URL for a while, on a connection of its own each time, and says
// how often that failed.
func hammer(ctx context.Context, args []string) error {
	if err := need(args, 2, "hammer URL DURATION"); err != nil {
		return err
	}
	d, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	var last error
	asked, failed := 0, 0
	for end := time.Now().Add(d); time.Now().Before(end); asked++ {
		if _, err := get(ctx, args[0]); err != nil {
			failed++
			last = err
		}
		time.Sleep(2 * time.Millisecond)
	}
	fmt.Printf("%d requests, %d failed\n", asked, failed)
	return last
}

func get(ctx context.Context, url string) (string, error) {
	return fetch(ctx, &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}, url, "")
}

func fetch(ctx context.Context, c *http.Client, url, token string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode >= 400 {
		return "", fmt.Errorf("%s: %s: %s", url, resp.Status, b)
	}
	return string(b), nil
}

// api asks the API server as the pod's service account.
func api(ctx context.Context, args []string) error {
	if err := need(args, 1, "api PATH"); err != nil {
		return err
	}
	token, err := os.ReadFile(serviceAccount + "token")
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(serviceAccount + "ca.crt")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	body, err := fetch(ctx, c, "https://kubernetes.default.svc"+args[0], strings.TrimSpace(string(token)))
	fmt.Println(body)
	return err
}

// exchange sends a line and prints the answer.
func exchange(ctx context.Context, network string, args []string) error {
	if err := need(args, 2, network+" ADDRESS TEXT"); err != nil {
		return err
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, network, args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, args[1]); err != nil {
		return err
	}
	b := make([]byte, len(args[1]))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	fmt.Println(string(b))
	return nil
}

// reachAll reads lines of targets, asks all of a line at once, and answers with a
// line: who each of them is.
func reachAll(ctx context.Context, args []string) error {
	if err := need(args, 1, "reach PATIENCE"); err != nil {
		return err
	}
	patience, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Println(strings.Join(reach.All(ctx, strings.Fields(lines.Text()), patience), "\t"))
	}
	return lines.Err()
}

// packet sends a UDP packet and prints the answer, N times when told, each from a
// port of its own.
func packet(ctx context.Context, args []string) error {
	if err := need(args, 2, "packet ADDRESS TEXT [N]"); err != nil {
		return err
	}
	n := 1
	if len(args) > 2 {
		var err error
		if n, err = strconv.Atoi(args[2]); err != nil {
			return err
		}
	}
	for range n {
		answer, err := onePacket(ctx, args[0], args[1])
		if err != nil {
			return err
		}
		fmt.Println(strings.TrimSpace(answer))
	}
	return nil
}

func onePacket(ctx context.Context, address, text string) (string, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	b := make([]byte, 64<<10)
	k, err := c.Read(b)
	return string(b[:k]), err
}
