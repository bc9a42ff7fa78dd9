"""The only places that know the libraries which compute: onnxruntime, llama.cpp, CTranslate2."""
