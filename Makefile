# Everything a newcomer needs: `make demo` and `make test` do their own set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ASSETS ?= $(if $(EDGEPOSE_ASSETS),$(EDGEPOSE_ASSETS),../shared/assets)
DEMO ?= demo-out
DEFAULT := edgepose-s
DEMO_BUNDLE := $(DEMO)/bundles/$(DEFAULT)-256x456.ov-int8.pose
NETWORK := human-pose-estimation-0001
BUNDLES := $(DEMO)/bundles/$(NETWORK)-256x456

.PHONY: setup demo networks test test-all lint check check-native gpu-check gpu-bundles format clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt $(wildcard runtime/_native/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# People whom the network hardly believes in count in its OKS too, and come and go by rounding: hence 0.8.
demo: setup
	$(BIN)/python -m edgepose.benchmarks.demo $(DEMO)
	$(BIN)/pose-export --arch $(DEFAULT) --target ov-int8 --calib $(DEMO)/clip.mp4 --min-oks 0.8 --calib-cache $(DEMO)/cache --out $(DEMO)/bundles
	$(BIN)/pose-bench engine $(DEMO_BUNDLE) --images $(DEMO)/photo.jpg --turns 5
	$(BIN)/pose-run $(DEMO)/photo.jpg --bundle $(DEMO_BUNDLE) --out $(DEMO)/poses
	$(BIN)/pose-run $(DEMO)/clip.mp4 --bundle $(DEMO_BUNDLE) --out $(DEMO)/poses
	@echo "Look at $(DEMO)/poses/photo.jpg and $(DEMO)/poses/clip.mp4; how INT8 came about is in $(DEMO_BUNDLE)/calibration.html"

# The bundle that comes along, from the weights that come along, judged on labelled pictures; for CPUs without VNNI too.
networks: setup
	$(BIN)/pose-export --arch $(DEFAULT) --target ov-int8 --calib $(ASSETS)/people/unlabelled --verify $(ASSETS)/coco/val \
	  --coco $(ASSETS)/coco/val.json --images $(ASSETS)/coco/val --max-ap-drop 0.005 --overflow-fix --no-report-pictures --out engines/networks

PYTEST := $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile
test: setup
	$(PYTEST) -m 'not slow'

# With the real networks through every target, which takes minutes on two slow cores.
test-all: setup
	$(PYTEST)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test

# The parser's core under sanitizers, on emulated ARM and under a fuzzer (FUZZ_S=600: ten minutes); the CUDA kernel compiled for every GPU.
FUZZ_S ?= 30
check-native: setup
	runtime/_native/checks/run build/checks $(abspath $(BIN)/python) $(FUZZ_S)

# On a machine with an NVIDIA GPU and TensorRT: the tests that need one, then the figures, into one results file.
GPU_RESULTS ?= gpu-results.json
GPU_BUNDLES := $(foreach target,trt-fp32 trt-fp16 trt-int8,$(BUNDLES).$(target).pose)
gpu-check: setup
	EDGEPOSE_REQUIRE=cuda $(BIN)/pytest tests/engines tests/contracts tests/benchmarks/test_gpu.py
	$(MAKE) gpu-bundles
	$(BIN)/pose-bench gpu $(GPU_BUNDLES) --images $(ASSETS)/coco/val --out $(GPU_RESULTS)

gpu-bundles: setup
	$(BIN)/pose-export --arch $(NETWORK) --weights $(ASSETS)/weights/$(NETWORK).pth --target trt-fp32 --target trt-fp16 --target trt-int8 \
	  --calib $(ASSETS)/people/unlabelled --verify $(ASSETS)/coco/val --out $(DEMO)/bundles

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist $(DEMO) .mypy_cache .ruff_cache .pytest_cache .hypothesis
