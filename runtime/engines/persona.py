"""Who the assistant is when nobody says otherwise.

The starter language model is very small. A few example exchanges teach it the manner of a spoken
answer (short, one fact) far better than instructions do, and cost nothing after the first turn,
because their KV cache is kept.
"""

from __future__ import annotations

from runtime.engines.engine import Context, Example

_EXAMPLES = (
    Example("What is the capital of Italy?", "The capital of Italy is Rome."),
    Example("How many days are in a week?", "There are seven days in a week."),
    Example("Who painted the Mona Lisa?", "Leonardo da Vinci painted the Mona Lisa."),
    Example("Hello, how are you?", "I am well, thank you. How can I help you?"),
)


def default_context(prompt: str, voice: str = "") -> Context:
    """The context of an ordinary conversation with a small model."""
    return Context(prompt, _EXAMPLES, voice)
