"""What the echo canceller is made of: alignment, a linear filter, a gate, a meter, and its trial."""
