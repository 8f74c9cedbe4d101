package flowcontrol

import (
	"net/http"
	"strconv"

	"skiff/apiserver/request"
)

// A list has a seat for each hundred objects that it goes through, at most ten, and
// never more than 15 % of its level's own share: one request cannot take a level
// (KEP-1040, "work estimate").
const (
	objectsPerSeat  = 100
	maxSeats        = 10
	maxShareOfLevel = 0.15
)

// width is how many seats the request takes: one, and more for a list. objects is the
// number of what is stored of its resource. Writes take one as well: an event is encoded
// once here, however many watch it, so that what they cost does not grow with watchers.
func width(r *http.Request, info *request.Info, nominal, objects int) int {
	if info.Verb != "list" || info.Name != "" {
		return 1
	}
	// A selector may go through many objects for each that is within the limit.
	if q := r.URL.Query(); info.FieldSelector == "" && info.LabelSelector == "" {
		if limit, err := strconv.Atoi(q.Get("limit")); err == nil && limit > 0 {
			objects = min(objects, limit)
		}
	}
	most := min(maxSeats, int(float64(nominal)*maxShareOfLevel))
	return max(1, min((objects+objectsPerSeat-1)/objectsPerSeat, most))
}
