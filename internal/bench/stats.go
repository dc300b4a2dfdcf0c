package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// quantile is by the nearest rank: the smallest value that at least the share q
// of all are not above. It is NaN of nothing.
func quantile(values []time.Duration, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	// A hair less, so that 0.95 × 20 is rank 19 whatever the last bit says.
	rank := int(math.Ceil(q*float64(len(sorted)) - 1e-9))
	return ms(sorted[min(max(rank, 1), len(sorted))-1])
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// median of an even number is the lower of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return slices.Sorted(slices.Values(values))[(len(values)-1)/2]
}

// number prints with as many digits as a reader wants of it.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case math.IsInf(v, 1):
		return "∞"
	case v != 0 && math.Abs(v) < 0.1:
		return fmt.Sprintf("%.3f", v)
	case math.Abs(v) < 10:
		return fmt.Sprintf("%.2f", v)
	case math.Abs(v) < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func seconds(d time.Duration) string { return number(d.Seconds()) }

func megabytes(n int64) string { return number(float64(n) / 1e6) }
