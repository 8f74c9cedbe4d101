// Package images keeps container images: it pulls them from registries, through
// the mirrors that registries.yaml names, verifies and stores their content by
// digest, and unpacks their layers so that overlayfs can stack them.
//
// Below the root are blobs/sha256 (content as it was pulled), layers (unpacked,
// one folder per uncompressed digest), ingest (downloads under way, kept for a
// later try) and images.json (the names). A file or folder appears under its
// final name only when it is whole, so a crash leaves nothing to repair.
package images
