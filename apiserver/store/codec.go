package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"

	"skiff/apiserver/resources"
)

// protoMagic begins every protobuf value that Kubernetes stores or sends.
var protoMagic = []byte{0x6b, 0x38, 0x73, 0x00}

// ProtoMessage is what the generated types of k8s.io/api can do.
type ProtoMessage interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
}

// Codec turns hub objects into storage bytes and back. Hub objects of Go types
// have an empty TypeMeta; custom resources (unstructured) keep theirs.
type Codec struct {
	gvk      schema.GroupVersionKind
	hub      *resources.Version
	versions map[schema.GroupVersion]*resources.Version
	header   []byte
	// untyped: custom resources, in JSON. proto: the hub type has a protobuf form.
	untyped, proto bool
}

// NewCodec is the codec of a resource.
func NewCodec(r *resources.Resource) (*Codec, error) {
	c := &Codec{
		gvk:      schema.GroupVersionKind{Group: r.Group, Version: r.Hub, Kind: r.Kind},
		versions: map[schema.GroupVersion]*resources.Version{},
	}
	for i := range r.Versions {
		v := &r.Versions[i]
		c.versions[schema.GroupVersion{Group: r.Group, Version: v.Name}] = v
		if v.Name == r.Hub {
			c.hub = v
		}
	}
	if c.hub == nil {
		return nil, fmt.Errorf("resource %s: the hub version %q is none of its versions", r.GroupResource(), r.Hub)
	}
	empty := c.hub.New()
	_, c.untyped = empty.(*unstructured.Unstructured)
	_, c.proto = empty.(ProtoMessage)
	c.header = ProtoHeader(c.gvk)
	return c, nil
}

// ProtoHeader is the envelope's beginning up to the object's bytes: the magic and the type.
func ProtoHeader(gvk schema.GroupVersionKind) []byte {
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	tm := appendProtoString(nil, 1, apiVersion)
	tm = appendProtoString(tm, 2, kind)
	h := append([]byte(nil), protoMagic...)
	h = append(h, 1<<3|2)
	h = appendVarint(h, uint64(len(tm)))
	return append(h, tm...)
}

// The end of the envelope: empty content encoding and content type.
var protoTrailer = []byte{3<<3 | 2, 0, 4<<3 | 2, 0}

// EncodeProto writes the envelope around m.
func EncodeProto(header []byte, m ProtoMessage) ([]byte, error) {
	size := m.Size()
	total := len(header) + 1 + varintLen(uint64(size)) + size + len(protoTrailer)
	buf := make([]byte, 0, total)
	buf = append(buf, header...)
	buf = append(buf, 2<<3|2)
	buf = appendVarint(buf, uint64(size))
	start := len(buf)
	buf = buf[:start+size]
	n, err := m.MarshalToSizedBuffer(buf[start:])
	if err != nil {
		return nil, err
	}
	if n != size {
		return nil, fmt.Errorf("protobuf: %T announced %d bytes and wrote %d", m, size, n)
	}
	return append(buf, protoTrailer...), nil
}

// Encode makes the storage bytes. It clears obj's resourceVersion.
func (c *Codec) Encode(obj runtime.Object) ([]byte, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil, err
	}
	m.SetResourceVersion("")
	if u, ok := obj.(*unstructured.Unstructured); ok {
		u.SetGroupVersionKind(c.gvk)
		b, err := json.Marshal(u.Object)
		if err != nil {
			return nil, err
		}
		return append(b, '\n'), nil
	}
	if pm, ok := obj.(ProtoMessage); ok {
		return EncodeProto(c.header, pm)
	}
	body, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	return append(PrefixTypeMeta(c.gvk, body), '\n'), nil
}

// PrefixTypeMeta puts kind and apiVersion in front of a JSON object without them.
func PrefixTypeMeta(gvk schema.GroupVersionKind, body []byte) []byte {
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	out := make([]byte, 0, len(body)+len(apiVersion)+len(kind)+32)
	out = append(out, `{"kind":"`...)
	out = append(out, kind...)
	out = append(out, `","apiVersion":"`...)
	out = append(out, apiVersion...)
	out = append(out, '"')
	if len(body) > 2 {
		out = append(out, ',')
	}
	return append(out, body[1:]...)
}

// Decode makes a new hub object of storage bytes, with resourceVersion rev; none
// when rev is 0, as an object that was never stored has none.
func (c *Codec) Decode(data []byte, rev int64) (runtime.Object, error) {
	obj, err := c.decode(data)
	if err != nil {
		return nil, err
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil, err
	}
	setRevision(m, rev)
	return obj, nil
}

func setRevision(m metav1.Object, rev int64) {
	if rev > 0 {
		m.SetResourceVersion(strconv.FormatInt(rev, 10))
	}
}

func (c *Codec) decode(data []byte) (runtime.Object, error) {
	if c.untyped {
		u := c.hub.New().(*unstructured.Unstructured)
		if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &u.Object); err != nil {
			return nil, fmt.Errorf("stored object of %s: %w", c.gvk, err)
		}
		gv := u.GroupVersionKind().GroupVersion()
		if v := c.versions[gv]; v != nil && v.Coerce != nil {
			if _, err := v.Coerce(u, true, false); err != nil {
				return nil, fmt.Errorf("stored object of %s: %w", c.gvk, err)
			}
		}
		if gv != c.gvk.GroupVersion() {
			return c.toHub(gv, u)
		}
		if c.hub.Default != nil {
			c.hub.Default(u)
		}
		return u, nil
	}
	if b := c.hubBody(data); b != nil {
		obj := c.hub.New()
		if err := obj.(ProtoMessage).Unmarshal(b); err != nil {
			return nil, fmt.Errorf("stored object of %s: %w", c.gvk, err)
		}
		return finish(c.hub, obj)
	}
	if bytes.HasPrefix(data, protoMagic) {
		var unk runtime.Unknown
		if err := unk.Unmarshal(data[len(protoMagic):]); err != nil {
			return nil, fmt.Errorf("stored object of %s: envelope: %w", c.gvk, err)
		}
		v, err := c.version(unk.APIVersion, unk.Kind)
		if err != nil {
			return nil, err
		}
		obj := v.New()
		pm, ok := obj.(ProtoMessage)
		if !ok {
			return nil, fmt.Errorf("stored object of %s: %T has no protobuf form", c.gvk, obj)
		}
		if err := pm.Unmarshal(unk.Raw); err != nil {
			return nil, fmt.Errorf("stored object of %s: %w", c.gvk, err)
		}
		return finish(v, obj)
	}
	var tm metav1.TypeMeta
	if err := json.Unmarshal(data, &tm); err != nil {
		return nil, fmt.Errorf("stored object of %s is neither protobuf nor JSON: %w", c.gvk, err)
	}
	v, err := c.version(tm.APIVersion, tm.Kind)
	if err != nil {
		return nil, err
	}
	obj := v.New()
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, obj); err != nil {
		return nil, fmt.Errorf("stored object of %s: %w", c.gvk, err)
	}
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return finish(v, obj)
}

// hubBody is the object's own bytes in a protobuf value of the hub version as
// this server writes it; nil for all other values.
func (c *Codec) hubBody(data []byte) []byte {
	if c.untyped || !c.proto || !bytes.HasPrefix(data, c.header) {
		return nil
	}
	rest := data[len(c.header):]
	if len(rest) == 0 || rest[0] != 2<<3|2 {
		return nil
	}
	size, n := binary.Uvarint(rest[1:])
	if n <= 0 || size > uint64(len(rest)) {
		return nil
	}
	rest = rest[1+n:]
	if len(rest) != int(size)+len(protoTrailer) || !bytes.Equal(rest[size:], protoTrailer) {
		return nil
	}
	return rest[:size:size]
}

func (c *Codec) version(apiVersion, kind string) (*resources.Version, error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, fmt.Errorf("stored object of %s: %w", c.gvk, err)
	}
	v := c.versions[gv]
	if v == nil || kind != c.gvk.Kind {
		return nil, fmt.Errorf("stored object of %s is a %s of %s, which this server does not know", c.gvk, kind, apiVersion)
	}
	return v, nil
}

func (c *Codec) toHub(gv schema.GroupVersion, obj runtime.Object) (runtime.Object, error) {
	v := c.versions[gv]
	if v == nil {
		return nil, fmt.Errorf("stored object of %s is of version %s, which this server does not know", c.gvk, gv)
	}
	return finish(v, obj)
}

func finish(v *resources.Version, obj runtime.Object) (runtime.Object, error) {
	if v.Default != nil {
		v.Default(obj)
	}
	if v.ToHub == nil {
		return obj, nil
	}
	return v.ToHub(obj)
}

func appendProtoString(b []byte, fieldNumber int, s string) []byte {
	b = append(b, byte(fieldNumber<<3|2))
	b = appendVarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendVarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func varintLen(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}
