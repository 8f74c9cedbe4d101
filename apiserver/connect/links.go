package connect

import (
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// maxToken bounds one tag or text of a page; what is longer ends the page.
const maxToken = 1 << 20

// links keeps the links of a page below the proxy's own path, while the page is
// passed on: a page may be of any length.
func (p passing) links(resp *http.Response) {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	encoding := resp.Header.Get("Content-Encoding")
	if err != nil || kind != "text/html" || encoding != "" && encoding != "gzip" || resp.Request.Method == http.MethodHead {
		return
	}
	from := resp.Body
	out, in := io.Pipe()
	resp.Body = page{out, from}
	resp.Header.Del("Content-Length")
	resp.ContentLength = -1
	// It ends when the page does, or when the reader hangs up.
	go func() { _ = in.CloseWithError(p.rewrite(in, from, encoding == "gzip")) }() // never fails
}

// page is a body that is rewritten; closing it ends the original too.
type page struct {
	*io.PipeReader
	from io.Closer
}

func (p page) Close() error { return errors.Join(p.PipeReader.Close(), p.from.Close()) }

func (p passing) rewrite(w io.Writer, r io.Reader, zipped bool) error {
	if !zipped {
		return p.rewriteTags(w, r)
	}
	from, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	to := gzip.NewWriter(w)
	return errors.Join(p.rewriteTags(to, from), to.Close())
}

func (p passing) rewriteTags(w io.Writer, r io.Reader) error {
	tags := html.NewTokenizer(r)
	tags.SetMaxBuf(maxToken)
	for {
		switch tags.Next() {
		case html.ErrorToken:
			if err := tags.Err(); !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		case html.StartTagToken, html.SelfClosingTagToken:
			raw := string(tags.Raw()) // Token spoils it
			tag := tags.Token()
			changed := false
			for i, a := range tag.Attr {
				if to, ok := p.below(a.Val); ok && isLink(tag.Data, a.Key) {
					tag.Attr[i].Val, changed = to, true
				}
			}
			if changed {
				raw = tag.String()
			}
			if _, err := io.WriteString(w, raw); err != nil {
				return err
			}
		default:
			if _, err := w.Write(tags.Raw()); err != nil {
				return err
			}
		}
	}
}

// below is where a link of the other side leads through this proxy; false where
// it leads to another host, is relative, or is below the proxy already.
func (p passing) below(link string) (string, bool) {
	u, err := url.Parse(link)
	if err != nil || u.Host != "" && u.Host != p.to.Host || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, p.prefix) {
		return "", false
	}
	u.Scheme, u.Host = "", ""
	u.Path, u.RawPath = p.prefix+u.Path, ""
	return u.String(), true
}

// isLink tells the attributes that hold an address.
func isLink(tag, attribute string) bool {
	switch attribute {
	case "href":
		return tag == "a" || tag == "area" || tag == "base" || tag == "link"
	case "src":
		return tag == "audio" || tag == "embed" || tag == "frame" || tag == "iframe" || tag == "img" || tag == "input" ||
			tag == "script" || tag == "source" || tag == "track" || tag == "video"
	case "cite":
		return tag == "blockquote" || tag == "del" || tag == "ins" || tag == "q"
	case "action":
		return tag == "form"
	case "formaction":
		return tag == "button" || tag == "input"
	case "longdesc":
		return tag == "frame" || tag == "iframe" || tag == "img"
	case "poster":
		return tag == "video"
	case "data", "codebase":
		return tag == "object" || tag == "applet"
	case "background":
		return tag == "body"
	case "icon":
		return tag == "command"
	case "manifest":
		return tag == "html"
	}
	return false
}
