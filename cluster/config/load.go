package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// maxFile bounds a configuration file.
const maxFile = 1 << 20

// LoadInit reads a file with an InitConfiguration, a ClusterConfiguration and
// component configurations (KubeletConfiguration, KubeProxyConfiguration),
// each of which may be missing. Unknown fields and kinds are errors.
func LoadInit(path string) (*Init, error) { return loadInit(path, false) }

// loadInit reads what init needs; others are the kinds of the other commands,
// which may stand beside it in a file that is only checked.
func loadInit(path string, others bool) (*Init, error) {
	c := &Init{ComponentConfigs: map[string][]byte{}}
	err := eachDocument(path, func(meta metav1.TypeMeta, doc []byte) error {
		switch {
		case meta.APIVersion == APIVersion && meta.Kind == InitKind:
			cluster, components := c.Cluster, c.ComponentConfigs
			err := yaml.UnmarshalStrict(doc, c)
			c.Cluster, c.ComponentConfigs = cluster, components
			return err
		case meta.APIVersion == APIVersion && meta.Kind == ClusterKind:
			return yaml.UnmarshalStrict(doc, &c.Cluster)
		case meta.Kind == "KubeletConfiguration" || meta.Kind == "KubeProxyConfiguration":
			c.ComponentConfigs[meta.Kind] = doc
			return nil
		case others && meta.APIVersion == APIVersion && (meta.Kind == JoinKind || meta.Kind == ResetKind):
			return nil
		}
		return unknownKind(meta)
	})
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	return c, nil
}

// LoadJoin reads a JoinConfiguration.
func LoadJoin(path string) (*Join, error) {
	c := &Join{}
	return c, loadOne(path, JoinKind, c)
}

// LoadReset reads a ResetConfiguration.
func LoadReset(path string) (*Reset, error) {
	c := &Reset{}
	return c, loadOne(path, ResetKind, c)
}

// ParseCluster reads the ClusterConfiguration kept in the cluster.
func ParseCluster(doc []byte) (*Cluster, error) {
	c := &Cluster{}
	if err := yaml.UnmarshalStrict(doc, c); err != nil {
		return nil, fmt.Errorf("ClusterConfiguration: %w", err)
	}
	return c, nil
}

// Marshal is the YAML form of any of the kinds.
func Marshal(kind string, c any) ([]byte, error) {
	switch c := c.(type) {
	case *Init:
		c.TypeMeta = metav1.TypeMeta{APIVersion: APIVersion, Kind: kind}
	case *Cluster:
		c.TypeMeta = metav1.TypeMeta{APIVersion: APIVersion, Kind: kind}
	case *Join:
		c.TypeMeta = metav1.TypeMeta{APIVersion: APIVersion, Kind: kind}
	case *Reset:
		c.TypeMeta = metav1.TypeMeta{APIVersion: APIVersion, Kind: kind}
	}
	return yaml.Marshal(c)
}

func loadOne(path, kind string, into any) error {
	err := eachDocument(path, func(meta metav1.TypeMeta, doc []byte) error {
		if meta.APIVersion != APIVersion || meta.Kind != kind {
			return unknownKind(meta)
		}
		return yaml.UnmarshalStrict(doc, into)
	})
	if err != nil {
		return fmt.Errorf("configuration file %s: %w", path, err)
	}
	return nil
}

func unknownKind(meta metav1.TypeMeta) error {
	return fmt.Errorf("kind %q of apiVersion %q is not known here; want %s", meta.Kind, meta.APIVersion, APIVersion)
}

func eachDocument(path string, do func(metav1.TypeMeta, []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(data) > maxFile {
		return fmt.Errorf("is larger than %d bytes", maxFile)
	}
	docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &meta); err != nil {
			return err
		}
		if err := do(meta, doc); err != nil {
			return err
		}
	}
}
