# The default target lists the others.
PYTHON ?= python3
DEBIAN ?= 13
DEV := .venv-dev/bin
.DEFAULT_GOAL := help
.PHONY: help demo test test-picamera2 personas deb test-deb test-deb-arm64 image test-image release audit acceptance-arm64 fuzz check check-style check-types system-packages docs screenshots format clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: .venv/.ready ## watch the embedded video for a minute: messages, a live page, then a summary
	@.venv/bin/fer-edge run --source demo --node demo --loop --seconds 60 --web 0 --open

test: ## set up what tests need and run them all
	@$(MAKE) --no-print-directory -j3 check system-packages
	@# Two workers more than cores: many tests wait for a broker, a camera or systemd.
	@# Without bytecode files, each program that a test starts would compile fer-edge again.
	@PYTHONDONTWRITEBYTECODE= $(DEV)/python -m pytest -n $$(($$(nproc) + 2)) --dist loadgroup --no-loadscope-reorder

system-packages: ## install what tests need of the system
	@missing=; for each in mosquitto:mosquitto sshd:openssh-server ssh:openssh-client systemd-analyze:systemd \
	    systemd-nspawn:systemd-container mmdebstrap:mmdebstrap minisign:minisign; do \
	  PATH=$$PATH:/usr/sbin command -v $${each%%:*} >/dev/null || missing="$$missing $${each##*:}"; done; \
	[ -z "$$missing" ] \
	  || { [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -qy --no-install-recommends $$missing; } \
	  || { echo "tests need more of the system: sudo apt install$$missing"; exit 2; }
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -qy --no-install-recommends chromium; } \
	  || echo "Chromium is not available here (sudo apt install chromium): the tests of the page in a browser are skipped"

test-picamera2: .venv-dev/.ready ## test the camera module with the real picamera2, in a chroot that this makes
	@FER_EDGE_PICAMERA2_CHROOT=$${FER_EDGE_PICAMERA2_CHROOT:-$$HOME/.cache/fer-edge-tests/picamera2} \
	  $(DEV)/python -m pytest tests/system/picamera2

personas: .venv-dev/.ready ## type the README and docs/start in fresh containers of Debian, as root: half an hour
	@$(DEV)/python -m tests.system.personas --debian $(DEBIAN)

deb: .venv-package/.ready ## build the Debian packages, in dist: all four, or those of DEBIAN=12 and ARCH=arm64
	@.venv-package/bin/python distribution/debian/build.py $(if $(filter command environment,$(word 1,$(origin DEBIAN))),--debian $(DEBIAN)) \
	  $(if $(ARCH),--arch $(ARCH))

test-deb: .venv-dev/.ready .venv-package/.ready ## install, upgrade, break and purge the Debian package in containers, as root
	@PATH=$(CURDIR)/.venv-package/bin:$$PATH FER_EDGE_TEST_DEB=$(DEBIAN) $(DEV)/python -m pytest -q tests/system/debian_package

test-deb-arm64: .venv-dev/.ready .venv-package/.ready ## the same with the arm64 package on an emulated machine, as root: an hour
	@PATH=$(CURDIR)/.venv-package/bin:$$PATH $(DEV)/python -m tests.system.arm64 --package --debian $(DEBIAN) $(if $(OUT),--out $(OUT))

image: ## build the image with podman, from the package of make deb DEBIAN=13: for this processor or ARCH=arm64
	@arch=$(or $(ARCH),$$(dpkg --print-architecture)); \
	podman build --format docker -t localhost/fer-edge --arch "$$arch" --build-arg TARGETARCH="$$arch" \
	  $(if $(BASE),--build-arg BASE=$(BASE) --pull=never) $(if $(ISOLATION),--isolation=$(ISOLATION)) \
	  -f distribution/container/Containerfile dist

test-image: .venv-dev/.ready ## run the image of make image, read-only and without a network, as root
	@FER_EDGE_TEST_IMAGE=localhost/fer-edge $(DEV)/python -m pytest -q tests/system/container

release: .venv-package/.ready ## build wheel, source archive and release notes, in dist, and check them
	@mkdir -p dist && rm -f dist/fer_edge-*
	@.venv-package/bin/uv build -q --no-config --out-dir dist .
	@.venv-package/bin/twine check --strict dist/fer_edge-*
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); \
	sed -n "/^## \[$$version\]/,/^## \[/{/^## \[/d;p}" CHANGELOG.md > dist/RELEASE_NOTES.md; \
	[ -s dist/RELEASE_NOTES.md ] || { echo "CHANGELOG.md has no section [$$version]: rename [Unreleased]"; exit 2; }

audit: .venv-package/.ready ## ask the package index about known vulnerabilities of what the service needs
	@mkdir -p build
	@.venv-package/bin/uv pip compile -q --no-config --no-header --no-annotate --extra device pyproject.toml -o build/audit.txt
	@output=$$(.venv-package/bin/pip-audit --strict --disable-pip --no-deps -r build/audit.txt 2>&1) && echo "$$output" || \
	  { echo "$$output" | tail -20; case "$$output" in *"could not be audited"* | *[Cc]onnection* | *[Tt]imeout*) \
	    echo "nothing is known of some packages, because this machine's package index gives no data about vulnerabilities: run it elsewhere";; \
	  esac; exit 2; }

acceptance-arm64: .venv-dev/.ready ## accept the service on an emulated arm64 machine, as root: an hour
	@$(DEV)/python -m tests.system.arm64 --debian $(DEBIAN) $(if $(OUT),--out $(OUT))

fuzz: .venv-dev/.ready ## read 100,000 mutants of everything that comes from elsewhere: half an hour
	@$(DEV)/python -m tests.fuzz.run

check: check-style check-types ## formatting, lint, types, the direction of imports, and the English of manual and docstrings

check-types: .venv-dev/.ready ## check the types alone
	@$(DEV)/mypy --no-error-summary

check-style: .venv-dev/.ready ## check without the types
	@$(DEV)/ruff format --check -q . || { echo "run: make format"; exit 1; }
	@$(DEV)/ruff check -q .
	@$(DEV)/python docs/check_style.py README.md docs CONTRIBUTING.md CHANGELOG.md \
	  fer_edge device convert train/fer_edge_train benchmarks examples
	@output=$$($(DEV)/lint-imports --no-cache 2>&1) || { echo "$$output"; exit 1; }

docs: .venv-dev/.ready ## build the manual, in build/site
	@NO_MKDOCS_2_WARNING=1 $(DEV)/python -m mkdocs build --strict
	@echo "the manual is build/site/index.html"

screenshots: .venv-dev/.ready ## make the screenshots in docs/images, which needs Chromium
	@$(DEV)/python docs/make_screenshots.py

format: .venv-dev/.ready ## format the code and fix what can be fixed
	@$(DEV)/ruff format -q .
	@$(DEV)/ruff check -q --fix .

clean: ## remove the virtual environments and every cache
	@rm -rf .venv .venv-dev .venv-package .mypy_cache .ruff_cache .pytest_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fer-edge needs Python 3.11 or later: make PYTHON=python3.13 ..."; exit 2; }
	@$(PYTHON) -m venv .venv || { echo "no venv module: sudo apt install python3-venv"; exit 2; }
	@echo "setting up .venv (a minute, about 360 MB)"
	@.venv/bin/pip install -q --disable-pip-version-check -e ".[device]"
	@touch $@

.venv-package/.ready: pyproject.toml
	@$(PYTHON) -m venv .venv-package || { echo "no venv module: sudo apt install python3-venv"; exit 2; }
	@.venv-package/bin/pip install -q --disable-pip-version-check "uv>=0.13" "twine>=6" "cyclonedx-bom>=7" "pip-audit>=2.9"
	@touch $@

.venv-dev/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fer-edge needs Python 3.11 or later: make PYTHON=python3.13 ..."; exit 2; }
	@$(PYTHON) -m venv .venv-dev || { echo "no venv module: sudo apt install python3-venv"; exit 2; }
	@echo "setting up .venv-dev with TensorFlow and the tests' tools (a few minutes, about 4.6 GB)"
	@# Older pips do not know --group.
	@.venv-dev/bin/pip install -q --disable-pip-version-check "pip>=25.1"
	@.venv-dev/bin/pip install -q --no-compile -e ".[train,convert]" --group dev
	@# Without a wheel for this Python or machine, the tests that need PyTorch are skipped and say so.
	@.venv-dev/bin/pip install -q --no-compile --retries 1 --group torch --extra-index-url https://download.pytorch.org/whl/cpu \
	  || echo "PyTorch is not available here: its tests will be skipped"
	@# On all cores, where pip takes one. Some packages bring files of another Python's syntax, which fail.
	@$(DEV)/python -m compileall -qq -j 0 .venv-dev/lib || true
	@touch $@
