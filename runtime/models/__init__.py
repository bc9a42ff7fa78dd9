"""Models, one role a file: ears (vad, asr, turn), head (llm), mouth (tts), codec and duplex.

They know shapes and meanings; the libraries that compute are known only in `runtime/backends/`.
"""
