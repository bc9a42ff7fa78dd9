"""Parts of a multistream model: delay lines, cache window, drawing, prompts, saved states."""
