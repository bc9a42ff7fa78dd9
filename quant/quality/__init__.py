"""Sound compared with sound: each metric has one owner module, and says when it cannot be had."""
