//go:build race

package cloud

// The library's service controller reads its cache of Services beside their
// workers, which the race detector tells of in the library alone.
const raceDetector = true
