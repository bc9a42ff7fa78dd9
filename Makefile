# make demo      set up .venv, fetch the starter models, answer a spoken question
# make test      set up .venv with every extra, then lint, type-check and test
# make check     lint and type-check only
# make slow      the tests that take minutes: the published codec's size, ten thousand frames
# make gpu-cuda  rebuild llama.cpp for an NVIDIA GPU, Jetson too      make gpu-metal  for a Mac's GPU
# make licences  write LICENCES.md      make pins  write constraints/      make clean  remove .venv
#
# make fuzz      every parser of outside input, SECONDS=300 each; OUT=FILE keeps the JSON
# make big-quantize  a 7B-shaped model to q4_K_M beside llama.cpp's quantizer, LAYERS=8 of 32
# make bundle    a folder in dist/ that needs no Python: the command and the desktop app
# make aarch64   show that the appliance installs from wheels on 64-bit ARM (asks the package index)
# make pictures  take README's pictures of the tray again (needs xvfb-run, trayer, ImageMagick)
#
# PYTHON=python3.12 chooses another Python. Everything is safe to run twice and quick the second time.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check models gpu-cuda gpu-metal licences pins clean aarch64 bundle slow fuzz pictures big-quantize

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^$$/q'

demo: $(STAMPS)/talk
	$(BIN)/edge models fetch
	$(BIN)/edge demo

test: $(STAMPS)/all models check
	EDGE_REQUIRE_MODELS=1 EDGE_REQUIRE_ORACLES=1 $(BIN)/python -m pytest

slow: $(STAMPS)/all
	EDGE_SLOW=1 $(BIN)/python -m pytest -s tests/export/test_mimi_full_size.py

check: $(STAMPS)/all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

models: $(STAMPS)/talk
	$(BIN)/edge models fetch
	$(BIN)/edge models fetch hey-assistant
	$(BIN)/edge models fetch dnsmos plcmos ge2e-speaker

gpu-cuda: $(STAMPS)/talk
	sh scripts/gpu.sh cuda "$(BIN)/python"
	@touch $(STAMPS)/cuda

gpu-metal: $(STAMPS)/talk
	sh scripts/gpu.sh metal "$(BIN)/python"

licences: $(STAMPS)/all
	$(BIN)/edge licences --extra talk --extra tray --output LICENCES.md

pins: $(STAMPS)/all
	$(BIN)/python scripts/pin.py

big-quantize: $(STAMPS)/all
	$(BIN)/python scripts/big_quantize.py --layers $(or $(LAYERS),8) --pairs $(or $(PAIRS),2)

bundle: $(STAMPS)/talk
	$(PIP) install --quiet -c constraints/all.txt pyinstaller -e '.[talk,tray]'
	$(BIN)/edge models fetch
	$(BIN)/python -m apps.bundle.build

fuzz: $(STAMPS)/all
	$(BIN)/python -m scripts.fuzz $(or $(SECONDS),300) $(if $(OUT),--out $(OUT))

pictures: $(STAMPS)/all
	xvfb-run -a -s '-screen 0 900x560x24' $(BIN)/python -m scripts.tray_pictures docs/pictures

aarch64: $(STAMPS)/venv
	$(BIN)/python scripts/check_aarch64.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# --- set-up: each stamp is younger than what it was made from --------------------------------------

$(STAMPS)/venv: scripts/make_venv.sh
	sh scripts/make_venv.sh "$(PYTHON)" "$(VENV)"
	@mkdir -p $(STAMPS) && touch $@

# llama-cpp-python exists as source only: compiled once, with the flags this processor is safe with.
$(STAMPS)/llama: $(STAMPS)/venv scripts/build_llama.py constraints/runtime.txt
	if [ -e $(STAMPS)/cuda ]; then sh scripts/gpu.sh cuda-llama "$(BIN)/python"; \
	else $(BIN)/python scripts/build_llama.py; fi
	@touch $@

$(STAMPS)/talk: $(STAMPS)/llama pyproject.toml hatch_build.py
	$(PIP) install --quiet -c constraints/runtime.txt -e '.[talk]'
	if [ -e $(STAMPS)/cuda ]; then sh scripts/gpu.sh cuda-onnx "$(BIN)/python"; fi
	@touch $@

$(STAMPS)/all: $(STAMPS)/talk constraints/all.txt constraints/oracle.txt
	$(PIP) install --quiet -c constraints/all.txt -e '.[talk,export,quant,quality,plots,tray,cluster,dev]'
	$(PIP) install --quiet --no-deps -r constraints/oracle.txt
	if [ -e $(STAMPS)/cuda ]; then sh scripts/gpu.sh cuda-onnx "$(BIN)/python"; fi
	@touch $@
