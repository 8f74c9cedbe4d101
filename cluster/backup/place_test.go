package backup

import "testing"

// What a backup prints is what restore takes.
func TestArchive(t *testing.T) {
	for _, tc := range []struct{ place, want string }{
		{"/srv/backups/", "/srv/backups/a.tar.gz"},
		{"./", "a.tar.gz"},
		{"s3://bucket/prefix?endpoint=https://s3.example.org&region=eu-1", "s3://bucket/prefix/a.tar.gz?endpoint=https://s3.example.org&region=eu-1"},
		{"s3://bucket/prefix/", "s3://bucket/prefix/a.tar.gz"},
		{"s3://bucket", "s3://bucket/a.tar.gz"},
	} {
		if got := Archive(tc.place, "a.tar.gz"); got != tc.want {
			t.Errorf("in %s: %s, want %s", tc.place, got, tc.want)
		}
	}
}
