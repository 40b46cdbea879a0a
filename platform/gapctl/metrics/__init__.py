"""What a pair of embedding clouds says: pure functions, and accumulators where everything reduces to sums."""
