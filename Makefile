# `make` alone lists the targets. Only Python 3.11 to 3.13, make and git are needed; everything lands inside this folder.
.DEFAULT_GOAL := help
.PHONY: help demo test lint format lab mlflow docs bench lock hooks clean

PYTHON ?= python3
SYNCED := .venv/.synced
# What every recipe starts with: the tools' environment (project.env), and the locked tools first on the path.
TOOLS := PROJECT='$(CURDIR)'; export PROJECT; set -a; . ./project.env; set +a; PATH="$$PROJECT/.venv/bin:$$PATH"; unset VIRTUAL_ENV;

demo: $(SYNCED) ## set up, then one strategy from its notebook to paper trading, ending in the verdict
	@$(TOOLS) exec python -m pipelines.demo

test: $(SYNCED) ## set up, then every check: exports in sync, lint, types, import contracts, notebooks, tests
	@$(TOOLS) exec python -m tests.run

lint: $(SYNCED) ## the quick checks only: exports in sync, lint, types, import contracts
	@$(TOOLS) exec python -m tests.run sync lint types contracts

format: $(SYNCED) ## format the code, clean the notebooks, export the package from them
	@$(TOOLS) exec python -m tests.run --fix

lab: $(SYNCED) ## open JupyterLab on the project, with its kernel
	@$(TOOLS) exec jupyter lab

mlflow: $(SYNCED) ## open MLflow on the registry of this clone, with a link that compares the candidates (PORT=5000)
	@$(TOOLS) exec python -m pipelines.compare $(PORT)

docs: $(SYNCED) ## build the site into docs/_build/html
	@$(TOOLS) python -m docs.prepare && sphinx-build -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html
	@echo "the site: $(CURDIR)/docs/_build/html/index.html"

bench: $(SYNCED) ## measure tradelib beside its peers, compare results, write docs/benchmarks.md (ONLY=w3 SIZE=quick FRESH=1)
	@$(TOOLS) exec python -m benchmarks.run $(if $(ONLY),--only '$(ONLY)') $(if $(SIZE),--size '$(SIZE)') $(if $(FRESH),--fresh)

hooks: $(SYNCED) ## for this clone only: readable notebook diffs, cleaning on git add, cell-wise merges
	git config --local diff.jupytext.textconv '.venv/bin/jupytext --from ipynb --to py:percent -o -'
	git config --local filter.nbdev.clean '.venv/bin/python -m tests.clean'
	git config --local filter.nbdev.smudge cat
	git config --local filter.nbdev.required true
	git config --local merge.nbdev.name 'cell-wise notebook merge'
	git config --local merge.nbdev.driver '.venv/bin/nbdev_merge %O %A %B %P'

lock: $(SYNCED) ## resolve the requirements anew, after a change of pyproject.toml
	@$(TOOLS) exec python -m requirements.lock

clean: ## remove what runs leave behind (the environment, the trial ledger and the model registry stay)
	rm -rf docs/_build docs/_nbs build dist .cache/mypy .cache/ruff .cache/pytest .cache/import-linter
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@echo 'tradelib: from notebook to live order, with nothing lost in between.'
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-14s%s\n", $$1, $$2 }'
	@echo
	@echo 'New here: `make demo` and read the verdict, then `make lab` and open nbs/. The first call sets everything up.'

# The set-up: again only when the locked requirements, the metadata or the place of the folder changed.
$(shell test ! -f $(SYNCED) || test "$$(cat $(SYNCED))" = '$(CURDIR)' || rm -f $(SYNCED))

$(SYNCED): requirements/bootstrap.txt requirements/research.lock requirements/install.sh pyproject.toml setup.py
	@PROJECT='$(CURDIR)' sh requirements/install.sh '$(PYTHON)'
