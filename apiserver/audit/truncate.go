package audit

import (
	"encoding/json"
	"log/slog"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// TruncateConfig bounds events, for back ends that cannot take large ones.
type TruncateConfig struct {
	// MaxEventSize in bytes: an event above it loses its objects, and is left out
	// when that does not do. 0 bounds nothing.
	MaxEventSize int
	// MaxBatchSize in bytes is how much goes out at once. 0 bounds nothing.
	MaxBatchSize int
}

// truncated marks an event that lost its objects.
const truncated = "audit.k8s.io/truncated"

// encode is the event within its bound; nil when it cannot be.
func (c TruncateConfig) encode(e *auditv1.Event, log *slog.Logger) []byte {
	b, err := json.Marshal(e)
	if err == nil && c.MaxEventSize > 0 && len(b) > c.MaxEventSize {
		short := e.DeepCopy()
		short.RequestObject, short.ResponseObject = nil, nil
		if short.Annotations == nil {
			short.Annotations = map[string]string{}
		}
		short.Annotations[truncated] = "true"
		if b, err = json.Marshal(short); err == nil && len(b) > c.MaxEventSize {
			log.Error("audit event is lost: it is too large without its objects too", "id", e.AuditID, "size", len(b), "max", c.MaxEventSize)
			return nil
		}
	}
	if err != nil {
		log.Error("audit event cannot be encoded", "id", e.AuditID, "err", err)
		return nil
	}
	return b
}
