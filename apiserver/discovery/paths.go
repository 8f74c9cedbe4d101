package discovery

import "slices"

// Paths are the paths that discovery itself serves, in order.
func (d *Discovery) Paths() []string {
	docs := d.docs.Load()
	out := []string{"/api", "/apis"}
	for gv := range docs.byVersion {
		if gv.Group == "" {
			out = append(out, "/api/"+gv.Version)
			continue
		}
		out = append(out, "/apis/"+gv.Group+"/"+gv.Version)
	}
	for g := range docs.byGroup {
		out = append(out, "/apis/"+g)
	}
	slices.Sort(out)
	return out
}
