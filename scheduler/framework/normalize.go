package framework

// DefaultNormalize scales scores so that the highest becomes maxScore; reverse
// turns them round, so that the lowest raw score is best.
func DefaultNormalize(maxScore int64, reverse bool, scores []NodeScore) {
	var top int64
	for i := range scores {
		top = max(top, scores[i].Score)
	}
	if top == 0 {
		if reverse {
			for i := range scores {
				scores[i].Score = maxScore
			}
		}
		return
	}
	for i := range scores {
		s := maxScore * scores[i].Score / top
		if reverse {
			s = maxScore - s
		}
		scores[i].Score = s
	}
}
