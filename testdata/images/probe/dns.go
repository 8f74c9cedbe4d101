package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var dnsTypes = map[string]dnsmessage.Type{
	"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "CNAME": dnsmessage.TypeCNAME, "PTR": dnsmessage.TypePTR, "SRV": dnsmessage.TypeSRV,
}

// resolver is what /etc/resolv.conf says.
type resolver struct {
	servers, search []string
}

func readResolver() (resolver, error) {
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return resolver{}, err
	}
	defer f.Close()
	var r resolver
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) < 2:
		case words[0] == "nameserver":
			r.servers = append(r.servers, words[1])
		case words[0] == "search":
			r.search = words[1:]
		}
	}
	if len(r.servers) == 0 {
		return r, errors.New("/etc/resolv.conf names no server")
	}
	return r, lines.Err()
}

// dig asks the pod's DNS server by udp or tcp for the records of a type, of the
// name as it is where it ends in a dot, and else below each search domain.
func dig(ctx context.Context, args []string) error {
	if err := need(args, 3, "dig udp|tcp TYPE NAME"); err != nil {
		return err
	}
	kind, ok := dnsTypes[args[1]]
	if !ok {
		return fmt.Errorf("type %q is not known", args[1])
	}
	r, err := readResolver()
	if err != nil {
		return err
	}
	names := []string{args[2]}
	if !strings.HasSuffix(args[2], ".") {
		names = nil
		for _, domain := range r.search {
			names = append(names, args[2]+"."+strings.TrimSuffix(domain, ".")+".")
		}
		names = append(names, args[2]+".")
	}
	for _, name := range names {
		answers, err := ask(ctx, args[0], net.JoinHostPort(r.servers[0], "53"), name, kind)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(answers) > 0 {
			fmt.Println(strings.Join(answers, "\n"))
			return nil
		}
	}
	return fmt.Errorf("no %s of %v", args[1], names)
}

func ask(ctx context.Context, network, server, name string, kind dnsmessage.Type) ([]string, error) {
	host, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, err
	}
	question := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(time.Now().UnixNano()), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: host, Type: kind, Class: dnsmessage.ClassINET}},
	}
	query, err := question.Pack()
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	answer := make([]byte, 64<<10)
	n := 0
	if network == "tcp" {
		if _, err = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err == nil {
			_, err = io.ReadFull(c, answer[:2])
		}
		if err == nil {
			n, err = io.ReadFull(c, answer[:binary.BigEndian.Uint16(answer)])
		}
	} else if _, err = c.Write(query); err == nil {
		n, err = c.Read(answer)
	}
	if err != nil {
		return nil, err
	}
	var m dnsmessage.Message
	if err := m.Unpack(answer[:n]); err != nil {
		return nil, err
	}
	var out []string
	for _, a := range m.Answers {
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			out = append(out, "A "+net.IP(b.A[:]).String())
		case *dnsmessage.AAAAResource:
			out = append(out, "AAAA "+net.IP(b.AAAA[:]).String())
		case *dnsmessage.CNAMEResource:
			out = append(out, "CNAME "+b.CNAME.String())
		case *dnsmessage.PTRResource:
			out = append(out, "PTR "+b.PTR.String())
		case *dnsmessage.SRVResource:
			out = append(out, fmt.Sprintf("SRV %d %s", b.Port, b.Target.String()))
		}
	}
	return out, nil
}
