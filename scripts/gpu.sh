#!/bin/sh
# Rebuild for a GPU: gpu.sh cuda|metal PYTHON (cuda-llama and cuda-onnx are the halves of cuda).
# Says in one line what is missing.
#
# llama.cpp is compiled with the GPU's backend. On x86-64 with CUDA onnxruntime is replaced by
# onnxruntime-gpu of the same version, never installed beside it: one would hide the other. Jetson
# boards (aarch64) keep onnxruntime, for which no GPU wheel is published: depth transformer and
# codec stay on the processor there.
set -eu
kind=$1
python=$2

cuda_llama() {
    if ! command -v nvcc >/dev/null 2>&1; then
        echo "gpu-cuda needs NVIDIA's CUDA toolkit: there is no nvcc in PATH (on Jetson: export PATH=/usr/local/cuda/bin:\$PATH)" >&2
        exit 1
    fi
    args="-DGGML_CUDA=ON"
    # Orin boards are compute capability 8.7; elsewhere ggml's own list is right.
    if [ -e /etc/nv_tegra_release ]; then args="$args -DCMAKE_CUDA_ARCHITECTURES=87"; fi
    CMAKE_ARGS="$args ${CMAKE_ARGS:-}" "$python" scripts/build_llama.py
}

version_of() {
    "$python" -c "import importlib.metadata as m; print(m.version('$1'))" 2>/dev/null || true
}

cuda_onnx() {
    version=$(version_of onnxruntime)
    if [ "$(uname -m)" != x86_64 ] || [ -z "$version" ]; then return; fi
    "$python" -m pip uninstall --quiet -y onnxruntime onnxruntime-gpu
    "$python" -m pip install --quiet --no-deps "onnxruntime-gpu==$version" || {
        "$python" -m pip install --quiet --no-deps "onnxruntime==$version"
        echo "gpu-cuda: there is no onnxruntime-gpu $version for this Python; the depth transformer and the codec stay on the processor" >&2
    }
}

case $kind in
cuda)
    cuda_llama
    cuda_onnx
    ;;
cuda-llama) cuda_llama ;;
cuda-onnx) cuda_onnx ;;
metal)
    if [ "$(uname -s)" != Darwin ]; then
        echo "gpu-metal is for Macs; on this machine try: make gpu-cuda" >&2
        exit 1
    fi
    # The build for a Mac has Metal in it; onnxruntime's wheel for Macs has CoreML in it.
    "$python" scripts/build_llama.py
    ;;
*)
    echo "usage: gpu.sh cuda|metal PYTHON" >&2
    exit 2
    ;;
esac
case $kind in cuda|metal) "$python" -m apps.cli doctor --fast ;; esac
