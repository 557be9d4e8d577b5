# The default target lists the others.
PYTHON ?= python3
DEV := .venv-dev/bin
.DEFAULT_GOAL := help
.PHONY: help demo test test-picamera2 fuzz check format clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: .venv/.ready ## watch the embedded video for twelve seconds: messages, then a summary
	@.venv/bin/fer-edge run --source demo --node demo

test: check ## set up what tests need and run them all
	@missing=; for each in mosquitto:mosquitto sshd:openssh-server ssh:openssh-client systemd-analyze:systemd \
	    systemd-nspawn:systemd-container mmdebstrap:mmdebstrap; do \
	  PATH=$$PATH:/usr/sbin command -v $${each%%:*} >/dev/null || missing="$$missing $${each##*:}"; done; \
	[ -z "$$missing" ] \
	  || { [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -qy --no-install-recommends $$missing; } \
	  || { echo "tests need more of the system: sudo apt install$$missing"; exit 2; }
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -qy --no-install-recommends chromium; } \
	  || echo "Chromium is not available here (sudo apt install chromium): the tests of the page in a browser are skipped"
	@# Two workers more than cores: many tests wait for a broker, a camera or systemd.
	@$(DEV)/python -m pytest -n $$(($$(nproc) + 2)) --dist loadgroup --no-loadscope-reorder

test-picamera2: .venv-dev/.ready ## test the camera module with the real picamera2, in a chroot that this makes
	@FER_EDGE_PICAMERA2_CHROOT=$${FER_EDGE_PICAMERA2_CHROOT:-$$HOME/.cache/fer-edge-tests/picamera2} \
	  $(DEV)/python -m pytest tests/system/picamera2

fuzz: .venv-dev/.ready ## read 100,000 mutants of everything that comes from elsewhere: half an hour
	@$(DEV)/python -m tests.fuzz.run

check: .venv-dev/.ready ## formatting, lint, types and the direction of imports
	@$(DEV)/ruff format --check -q . || { echo "run: make format"; exit 1; }
	@$(DEV)/ruff check -q .
	@$(DEV)/mypy --no-error-summary
	@output=$$($(DEV)/lint-imports --no-cache 2>&1) || { echo "$$output"; exit 1; }

format: .venv-dev/.ready ## format the code and fix what can be fixed
	@$(DEV)/ruff format -q .
	@$(DEV)/ruff check -q --fix .

clean: ## remove the virtual environments and every cache
	@rm -rf .venv .venv-dev .mypy_cache .ruff_cache .pytest_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fer-edge needs Python 3.11 or later: make PYTHON=python3.13 ..."; exit 2; }
	@$(PYTHON) -m venv .venv || { echo "no venv module: sudo apt install python3-venv"; exit 2; }
	@echo "setting up .venv (a minute, about 360 MB)"
	@.venv/bin/pip install -q --disable-pip-version-check -e ".[device]"
	@touch $@

.venv-dev/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fer-edge needs Python 3.11 or later: make PYTHON=python3.13 ..."; exit 2; }
	@$(PYTHON) -m venv .venv-dev || { echo "no venv module: sudo apt install python3-venv"; exit 2; }
	@echo "setting up .venv-dev with TensorFlow and the tests' tools (a few minutes, about 4.6 GB)"
	@# Older pips do not know --group.
	@.venv-dev/bin/pip install -q --disable-pip-version-check "pip>=25.1"
	@.venv-dev/bin/pip install -q -e ".[train,convert]" --group dev
	@# Without a wheel for this Python or machine, the tests that need PyTorch are skipped and say so.
	@.venv-dev/bin/pip install -q --retries 1 --group torch --extra-index-url https://download.pytorch.org/whl/cpu \
	  || echo "PyTorch is not available here: its tests will be skipped"
	@touch $@
