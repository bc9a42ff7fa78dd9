"""What the echo canceller is made of: alignment, linear filter, gate and meter; and its trial."""
