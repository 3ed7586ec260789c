"""One module per stage of `dvc.yaml`, each with `SECTIONS` (the parameters it reads) and `main`."""
